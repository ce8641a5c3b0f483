/** Drains one database until SIGTERM, then prints what it measured as JSON. Started by stand.ts. */
import { startDrain } from '../../tests/capture/drain.ts';
import { median, percentile } from './statistics.ts';

async function main(): Promise<void> {
  const url = process.argv[2];
  if (url === undefined) throw new Error('Usage: drain-process.ts DATABASE_URL');
  let rows = 0;
  const claims: number[] = [];
  const acknowledgements: number[] = [];
  const drain = await startDrain({
    url,
    invalidate: () => undefined,
    onTiming: (claimMs, acknowledgeMs, count) => {
      rows += count;
      claims.push(claimMs);
      acknowledgements.push(acknowledgeMs);
    },
  });
  process.on('SIGTERM', () => {
    void drain.stop().then(() => {
      const report = {
        rows,
        claims: claims.length,
        claimP50: median(claims),
        claimP99: percentile(claims, 0.99),
        acknowledgeP50: median(acknowledgements),
      };
      process.stdout.write(JSON.stringify(report), () => process.exit(0));
    });
  });
  process.stdout.write('ready\n');
}

await main();
