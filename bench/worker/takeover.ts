/**
 * How long nobody drains when the leader is killed (SIGKILL) or stopped (SIGSTOP), as the log of the follower tells.
 *
 *     npx tsx bench/worker/takeover.ts [rounds = 5]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { startStand, summary, TOKEN } from './support.ts';

const ROUNDS = Number(process.argv[2] ?? 5);
const CLI = fileURLToPath(new URL('../../worker/dist/cli.js', import.meta.url));

const stand = await startStand();
try {
  const rows: Record<string, Record<string, string>> = {};
  for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) times.push(await takeover(signal));
    const { p50 } = summary(times);
    rows[signal] = { median: `${Math.round(p50)} ms`, most: `${Math.round(Math.max(...times))} ms` };
  }
  console.table(rows);
} finally {
  await stand.stop();
}

async function takeover(signal: 'SIGKILL' | 'SIGSTOP'): Promise<number> {
  const leader = start();
  await leader.role('leading');
  const follower = start();
  await follower.role('following');
  const at = Date.now();
  leader.process.kill(signal);
  const tookOver = await follower.role('leading');
  leader.process.kill('SIGKILL');
  follower.process.kill('SIGTERM');
  await once(follower.process, 'exit');
  return tookOver - at;
}

function start() {
  const process = spawn(globalThis.process.execPath, [CLI, 'run'], {
    env: {
      ...globalThis.process.env,
      DATABASE_URL: stand.databaseUrl,
      UPSTASH_REDIS_REST_URL: stand.gatewayUrl,
      UPSTASH_REDIS_REST_TOKEN: TOKEN,
      PORT: '0',
      FENCEPOST_LOG: 'json',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const seen = new Map<string, number>();
  const waiting = new Map<string, (at: number) => void>();
  createInterface({ input: process.stdout }).on('line', (text) => {
    const line = JSON.parse(text) as { role?: string; time: string };
    if (line.role === undefined) return;
    seen.set(line.role, Date.parse(line.time));
    waiting.get(line.role)?.(Date.parse(line.time));
  });
  return {
    process,
    role: (role: string) => {
      const at = seen.get(role);
      if (at !== undefined) return Promise.resolve(at);
      return new Promise<number>((resolve) => waiting.set(role, resolve));
    },
  };
}
