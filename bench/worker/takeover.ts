/**
 * How long nobody leads after the leader is killed (SIGKILL) or stopped (SIGSTOP), by the time stamps of the follower's log.
 *
 *     npx tsx bench/worker/takeover.ts [rounds = 5]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { median } from '../support/statistics.ts';
import { startStack, TOKEN } from '../support/worker.ts';

const ROUNDS = Number(process.argv[2] ?? 5);
const WORKER = fileURLToPath(new URL('../../worker', import.meta.url));

await execa(process.execPath, [`${WORKER}/build.mjs`]);

const stack = await startStack();
try {
  const rows: Record<string, Record<string, string>> = {};
  for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) times.push(await takeover(signal));
    rows[signal] = {
      median: `${Math.round(median(times))} ms`,
      most: `${Math.round(Math.max(...times))} ms`,
    };
  }
  console.table(rows);
} finally {
  await stack.stop();
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
  const process = spawn(globalThis.process.execPath, [`${WORKER}/dist/cli.js`, 'run'], {
    env: {
      ...globalThis.process.env,
      DATABASE_URL: stack.databaseUrl,
      UPSTASH_REDIS_REST_URL: stack.gatewayUrl,
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
