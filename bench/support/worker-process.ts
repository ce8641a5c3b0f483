/**
 * A worker as `fencepost run` starts it, whose log goes to the parent as messages with the time of the machine's
 * monotonic clock. Nothing else is different.
 */
import { readConfiguration } from '../../worker/src/lib/config.ts';
import { createLog } from '../../worker/src/lib/log.ts';
import { startWorker } from '../../worker/src/worker/start.ts';
import type { WorkerMessage } from './worker.ts';

const send = (message: WorkerMessage) => process.send?.(message);

const configuration = { ...readConfiguration(process.env), logLevel: 'debug' as const };
const log = createLog(configuration, {
  write(line: string) {
    const at = process.hrtime.bigint();
    const entry = JSON.parse(line) as Record<string, unknown>;
    if (entry.msg === 'invalidated') send({ kind: 'confirmed', target: String(entry.target), at });
    else if (typeof entry.rows === 'number') send({ kind: 'batch', rows: entry.rows, at });
    else if (typeof entry.state === 'string') send({ kind: 'state', state: entry.state });
    else if (entry.level === 'error' || entry.level === 'warn') process.stderr.write(line);
  },
});
const worker = await startWorker(configuration, log);
if (process.env.REPORT_MEMORY !== undefined) {
  let most = 0;
  setInterval(() => {
    const rss = process.memoryUsage.rss();
    if (rss <= most) return;
    most = rss;
    send({ kind: 'memory', rssMb: Math.round(rss / 1_048_576) });
  }, 20).unref();
}
const stop = async () => {
  await worker.stop();
  process.exit(0);
};
process.on('SIGTERM', () => void stop());
process.on('disconnect', () => void stop());
