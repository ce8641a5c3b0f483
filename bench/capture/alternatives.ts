/**
 * The throughput that each part of capture leaves, and that other ways of building it would: single-row updates by primary key, with
 * the triggers of triggers.ts.
 *
 *     npx tsx bench/capture/alternatives.ts [--seconds 2] [--rounds 9] [--clients 64] [--protocol prepared] [--only row_least,fencepost]
 *
 * The machine's speed changes by the minute, so each run of a variant stands between two of the table without a trigger, and counts as
 * its ratio to their mean; the median over the rounds is printed. No worker runs: see throughput.ts for the whole, and
 * instructions.ts for a measure without noise.
 */
import { parseArgs } from 'node:util';
import { median } from './statistics.ts';
import { pgbench, type Stand, startStand } from './support.ts';
import { captured, createTables, rows } from './triggers.ts';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '9' },
    clients: { type: 'string', default: '64' },
    protocol: { type: 'string', default: 'prepared' },
    only: { type: 'string', default: [...captured.keys()].join(',') },
  },
});

async function measure(stand: Stand, name: string): Promise<number> {
  const script = `\\set id random(1, ${rows})\nupdate public.${name} set used = used + 1 where id = :id;\n`;
  const result = await pgbench(stand.url, script, {
    clients: Number(options.clients),
    seconds: Number(options.seconds),
    protocol: options.protocol,
  });
  if (result.failed > 0) throw new Error(`${result.failed} transactions failed.`);
  await stand.query('truncate cache_invalidation.outbox, public.heap, public.indexed');
  await stand.query(`vacuum public.${name}`);
  return result.tps;
}

async function main(): Promise<void> {
  const stand = await startStand();
  try {
    await createTables(stand);
    const names = options.only.split(',');
    const ratios = new Map<string, number[]>();
    let before = await measure(stand, 'none');
    for (let round = 0; round < Number(options.rounds); round += 1) {
      for (const name of names) {
        const tps = await measure(stand, name);
        const after = await measure(stand, 'none');
        ratios.set(name, [...(ratios.get(name) ?? []), tps / ((before + after) / 2)]);
        before = after;
      }
    }
    for (const [name, samples] of ratios) {
      const sorted = samples.map((ratio) => ratio.toFixed(2)).sort();
      console.log(`${median(samples).toFixed(2)}  ${captured.get(name) ?? name}   [${sorted.join(' ')}]`);
    }
  } finally {
    await stand.stop();
  }
}

await main();
process.exit(0);
