/**
 * What the worker, /readyz, doctor and status say of each fault of Redis that is there when they start. Every fault is one of a
 * real Redis behind the gateway, or of the gateway before it. Of no target anything is known then: none is refused, none becomes a
 * dead letter, and everything is applied when Redis is back.
 */
import { createClient } from 'redis';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Finding } from '../../worker/src/diagnostics/doctor/finding.ts';
import { startUpstash } from '../support/upstash.ts';
import { startUpstashFaults } from './support/upstash-faults.ts';
import { runCommand, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

interface Fault {
  readonly url: string;
  mend(): Promise<unknown>;
  end?(): Promise<unknown>;
}

/** Sends commands to the stack's Redis. */
async function tell(...commands: string[][]): Promise<void> {
  const client = createClient({ url: stack.redis.url });
  client.on('error', () => undefined);
  await client.connect();
  for (const command of commands) await client.sendCommand(command);
  client.destroy();
}

/** A gateway that answers so until it is mended. */
async function answering(status: number, body: object): Promise<Fault> {
  const upstash = await startUpstashFaults(stack.gateway.url);
  upstash.set({ kind: 'answer', status, body: JSON.stringify(body) });
  return { url: upstash.url, mend: async () => upstash.set({ kind: 'none' }), end: () => upstash.close() };
}

const told = async (fault: string[][], mend: string[][]): Promise<Fault> => {
  await tell(...fault);
  return { url: stack.gateway.url, mend: () => tell(...mend) };
};

const FAULTS: readonly (readonly [what: string, fault: () => Promise<Fault>, code: string, words: string])[] =
  [
    [
      'is away behind a gateway',
      () => answering(503, { error: 'ERR Redis is not reachable' }),
      'UPSTASH_SERVER_ERROR',
      'that its Redis is up',
    ],
    [
      'is stopped (SIGSTOP)',
      async () => {
        process.kill(stack.redis.pid, 'SIGSTOP');
        return { url: stack.gateway.url, mend: async () => process.kill(stack.redis.pid, 'SIGCONT') };
      },
      'UPSTASH_TIMEOUT',
      'does not answer in time',
    ],
    [
      'is a replica',
      () => told([['REPLICAOF', '127.0.0.1', '1']], [['REPLICAOF', 'NO', 'ONE']]),
      'UPSTASH_SERVER_ERROR',
      'is a replica, which takes no writes',
    ],
    [
      'is loading',
      () => answering(400, { error: 'LOADING Redis is loading the dataset in memory' }),
      'UPSTASH_SERVER_ERROR',
      'is loading its data',
    ],
    [
      'cannot save',
      () => answering(400, { error: 'MISCONF Redis is configured to save RDB snapshots' }),
      'UPSTASH_SERVER_ERROR',
      'cannot save',
    ],
    [
      'has another server at its address',
      () => answering(404, { message: 'no route' }),
      'UPSTASH_SERVER_ERROR',
      'not known here',
    ],
  ];

/** What no message may say while Redis serves nobody. */
const UNTRUE = /dead letter|refuses to delete|token may not|Unexpected failure/;

describe('a worker that starts while Redis', () => {
  it.each(FAULTS)('%s', async (_what, start, code, words) => {
    const fault = await start();
    const environment = stack.environment({
      UPSTASH_REDIS_REST_URL: fault.url,
      FENCEPOST_UPSTASH_TIMEOUT_SECONDS: '1',
    });
    const output = async (command: string): Promise<string> => {
      const one = startWorkerProcess(environment, [command, '--json']);
      await one.exited;
      return one.lines.map(({ msg }) => msg).join('\n');
    };
    try {
      const worker = startWorkerProcess(environment);
      const line = await worker.line((entry) => entry.code !== undefined);
      expect(line).toMatchObject({ level: 'error', code, msg: expect.stringContaining(words) });
      await worker.line(({ role }) => role === 'leading');
      const reasons = async () =>
        ((await (await fetch(`${await worker.url()}/readyz`)).json()) as { reasons: string[] }).reasons;
      await expect.poll(reasons).toContainEqual(expect.stringContaining(words));
      const { findings } = JSON.parse(await output('doctor')) as { findings: Finding[] };
      const failed = findings.filter(({ name, verdict }) => name.startsWith('redis') && verdict === 'fail');
      expect(failed).toContainEqual(expect.objectContaining({ detail: expect.stringContaining(words) }));
      expect(JSON.stringify(failed)).not.toMatch(UNTRUE);
      expect(findings.find(({ name }) => name === 'worker')).toMatchObject({
        detail: expect.stringMatching(/^leads/),
      });
      expect(await output('status')).not.toMatch(UNTRUE);

      await fault.mend();
      const [organisation = ''] = await stack.organisations(1);
      await stack.write([organisation]);
      await stack.fences.deleted([fenceOf(organisation)]);
      expect(worker.lines.filter(({ msg }) => UNTRUE.test(msg))).toEqual([]);
      expect(JSON.parse(await output('status'))).toMatchObject({ queue: { failed: 0 }, problems: [] });
      worker.signal('SIGTERM');
      expect(await worker.exited).toBe(0);
    } finally {
      await fault.mend();
      await fault.end?.();
    }
  });

  it('is full: invalidations flow, and /readyz says that no answer can be stored', async () => {
    const readyz = async (worker: ReturnType<typeof startWorkerProcess>) =>
      (await (await fetch(`${await worker.url()}/readyz`)).json()) as { ready: boolean; warnings: string[] };
    // With a heartbeat that stands, a worker has nothing to write that a full Redis refuses.
    const first = startWorkerProcess(stack.environment());
    await expect.poll(() => readyz(first)).toMatchObject({ ready: true });
    first.signal('SIGTERM');
    await first.exited;
    const [organisation = ''] = await stack.organisations(1);
    await tell(['CONFIG', 'SET', 'maxmemory', '1']);
    try {
      const worker = startWorkerProcess(stack.environment());
      await expect
        .poll(() => readyz(worker))
        .toMatchObject({ ready: true, warnings: [expect.stringContaining("Redis's memory is full")] });
      await stack.write([organisation]);
      await stack.fences.deleted([fenceOf(organisation)]);
    } finally {
      await tell(['CONFIG', 'SET', 'maxmemory', '0']);
    }
  });

  it('wants a password from the gateway: waiting does not mend it, and it is not the token', async () => {
    const { redis: locked, gateway, stop } = await startUpstash();
    onTestFinished(stop);
    const admin = createClient({ url: locked.url });
    admin.on('error', () => undefined);
    try {
      await admin.connect();
      await admin.configSet('requirepass', 'secret');
      await admin.sendCommand(['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes']);
      const worker = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: gateway.url }));
      expect(await worker.exited).toBe(77);
      expect(worker.lines.at(-1)).toMatchObject({
        level: 'fatal',
        code: 'UPSTASH_UNAUTHORIZED',
        msg: expect.stringContaining("that server's own configuration"),
      });
    } finally {
      admin.destroy();
    }
  });
});

it.each([
  ['has no memory left', ['--maxmemory', '1', '--maxmemory-policy', 'noeviction'], 'memory is full'],
  ['does not know GETEX', ['--rename-command', 'GETEX', ''], 'GETEX: The server'],
])('a Redis that takes DEL but %s: doctor says so', async (_what, parameters, words) => {
  const { gateway, stop } = await startUpstash({ redis: { arguments: parameters } });
  onTestFinished(stop);
  const environment = stack.environment({ UPSTASH_REDIS_REST_URL: gateway.url });
  const { json } = await runCommand(environment, ['doctor', '--json']);
  expect(json<{ findings: Finding[] }>().findings).toContainEqual(
    expect.objectContaining({ name: 'redis rights', detail: expect.stringContaining(words) }),
  );
});
