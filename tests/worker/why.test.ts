import { createClient } from 'redis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import type { Why } from '../../worker/src/commands/why.ts';
import { killAllWorkers, ready, runCommand, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
beforeAll(async () => {
  stack = await startWorkerStack();
});
afterEach(async (test) => {
  await killAllWorkers(test);
  await stack.sql.query('delete from cache_invalidation.changes');
});
afterAll(async () => {
  await stack.close();
});

const command = (parameters: readonly string[], changes: Record<string, string> = {}) =>
  runCommand(stack.environment(changes), parameters);

async function why(key: string): Promise<Why> {
  const { json, errors } = await command(['why', key, '--json']);
  expect(errors).toBe('');
  return json();
}

const cache = () => stack.reader();

describe('why', () => {
  it('tells a hit, and after a write what made it a miss; it shows no value', async () => {
    const worker = startWorkerProcess(stack.environment());
    await ready(worker);
    const [organisation = ''] = await stack.organisations(1);
    const key = `quota:${organisation}:openai:gpt`;
    await cache().getOrSet(key, async () => ({ secret: 'value' }));
    const answered = await why(key);
    expect(answered).toMatchObject({ key, type: 'quota', verdict: 'hit', pending: [] });
    expect(answered.fences).toEqual(['fence:quota', fenceOf(organisation)]);
    expect(answered.watches.map(({ table, target }) => [table, target])).toEqual([
      ['quotas', 'quota:{org_id}:*'],
    ]);
    const people = await command(['why', key]);
    expect(people.text).toMatch(/^now +hit: It was loaded .* ago/);
    expect(people.text).not.toContain('secret');

    await stack.fences.arm([fenceOf(organisation)]);
    await stack.write([organisation]);
    await stack.fences.deleted([fenceOf(organisation)]);
    expect(await why(key)).toMatchObject({
      verdict: 'miss',
      why: expect.stringContaining(`${fenceOf(organisation)} is gone`),
    });
  });

  it('tells what is on its way while no worker applies it, and that an entry is trusted only while it is young', async () => {
    const [organisation = ''] = await stack.organisations(1);
    const key = `quota:${organisation}:openai:gpt`;
    // The heartbeat of a worker that is gone lasts for 90 s.
    const redis = createClient({ url: stack.redis.url });
    await redis.connect();
    await redis.del(HEARTBEAT_KEY);
    await redis.close();
    await cache().getOrSet(key, async () => 1);
    await stack.write([organisation]);
    await stack.sql.query("select cache_invalidation.invalidate('session:unrelated:state')");
    const { verdict, pending } = await why(key);
    expect(verdict).toBe('young');
    expect(pending).toEqual([
      {
        target: `quota:${organisation}:*`,
        table: 'quotas',
        ageMs: expect.any(Number),
        dueInMs: null,
        unconfirmed: null,
      },
    ]);
  });

  it('names what else an answer depends on, and what reaches it through that', async () => {
    const [organisation = ''] = await stack.organisations(1);
    const options = { dependsOn: [`quota:${organisation}:*`, 'session:s9:state'] };
    await cache().getOrSet('report:1', async () => 1, 60, options);
    await stack.write([organisation]);
    const answered = await why('report:1');
    expect(answered.dependsOn).toEqual(['quota', `quota:${organisation}`, 'session', 'session:s9']);
    expect(answered.fences).toEqual([
      'fence:report',
      'fence:report:1',
      ...answered.dependsOn.map((scope) => `fence:${scope}`),
    ]);
    expect(answered.watches.map(({ table }) => table)).toEqual(['quotas', 'sessions']);
    expect(answered.pending).toMatchObject([{ target: `quota:${organisation}:*` }]);
    const { text } = await command(['why', 'report:1']);
    expect(text).toMatch(/^depends on +quota +quota:/m);
  });

  it('names no fence where nothing is stored, since only a reader knows the entity then', async () => {
    const { verdict, fences, watches } = await why('cost:zz:yy');
    expect([verdict, fences]).toEqual(['miss', []]);
    expect(watches).not.toEqual([]);
    const { text } = await command(['why', 'cost:zz:yy']);
    expect(text).toMatch(/^behind +not known: /m);
    expect(text).not.toContain('fence:');
  });

  it('tells when a throttled target runs', async () => {
    await stack.sql.query(
      `insert into cache_invalidation.pending (target, why, due_at)
       values ('usage:resting:*', 'throttled', now() + interval '40 s')`,
    );
    const { pending, watches } = await why('usage:resting:2026-01-01:2026-02-01');
    expect(pending).toHaveLength(1);
    expect(pending[0]?.dueInMs).toBeGreaterThan(30_000);
    expect(watches).toMatchObject([{ table: 'usage_events', minInterval: '00:01:00' }]);
    const { text } = await command(['why', 'usage:resting:2026-01-01:2026-02-01']);
    expect(text).toMatch(/on its way +usage:resting:\*, pending for .*: throttled, and runs in \d+\.\d s/);
    expect(text).toContain('at most every 00:01:00');
    await stack.sql.query('delete from cache_invalidation.pending');
  });

  it('tells what Redis refused, and what became a dead letter', async () => {
    await stack.sql.query(
      `insert into cache_invalidation.pending (target, why, due_at, failed_at)
       values ('quota:refused:*', 'refused', now(), null), ('quota:refused:openai:gpt', 'refused', now(), now())`,
    );
    const { pending } = await why('quota:refused:openai:gpt');
    expect(pending.map(({ unconfirmed }) => unconfirmed)).toEqual([
      'refused',
      'refused, a dead letter: "fencepost retry"',
    ]);
    const { text } = await command(['why', 'quota:refused:openai:gpt']);
    expect(text).toMatch(/on its way +quota:refused:\*, pending for .*: refused/);
    await stack.sql.query('delete from cache_invalidation.pending');
  });

  it('does not call a table watched whose triggers are off, nor a schema that is not there a missing migration', async () => {
    await stack.sql.query('alter table public.quotas disable trigger all');
    try {
      const { watches } = await why('quota:off:openai:gpt');
      expect(watches[0]?.problem).toMatch(/triggers are missing or disabled/);
    } finally {
      await stack.sql.query('select cache_invalidation.refresh()');
    }
    expect((await why('quota:off:openai:gpt')).watches[0]?.problem).toBeNull();
    const nowhere = await command(['watch', 'nowhere.t', 'x:{id}']);
    expect(nowhere.errors).toMatch(/This cannot be watched: schema "nowhere" does not exist/);
  });

  it('tells what the database knows while Redis is away', async () => {
    const [organisation = ''] = await stack.organisations(1);
    await stack.write([organisation]);
    const key = `quota:${organisation}:openai:gpt`;
    const { code, text } = await command(['why', key], { UPSTASH_REDIS_REST_URL: 'http://127.0.0.1:1' });
    expect(code).toBe(69);
    expect(text).toMatch(/^now +unknown: Redis could not be asked\./);
    expect(text).toContain(`quota:${organisation}:*, written`);
  });

  it('says that nothing invalidates a key of no watched table', async () => {
    const { code, text } = await command(['why', 'forgotten:key']);
    expect(code).toBe(0);
    expect(text).toContain('Nothing is stored under it.');
    expect(text).toContain('no watched table invalidates it');
  });

  it.each(['quota:acme:*', 'fence:quota', ''])('refuses %j, which is no key', async (key) => {
    const { code, errors } = await command(['why', key]);
    expect(code).toBe(64);
    expect(errors).toMatch(/Name one key, such as order:42:total\./);
  });
});
