/**
 * Confirmed means confirmed: Redis refuses some DELs and takes others, key by key, at random from a seed, for seconds. Writers
 * write, readers read through the real cache module. For every read: an invalidation that stood in neither outbox nor `pending`
 * when the read began has been confirmed, so the answer is not older.
 */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { createCache } from '../../supabase/functions/_shared/cache.ts';
import { startUpstashFaults, type UpstashFaults } from './support/upstash-faults.ts';
import { asleep, killAllWorkers, startWorkerProcess } from './support/worker-process.ts';
import { startWorkerStack, TOKEN, type WorkerStack } from './support/worker-stack.ts';

const SEED = 20_261_129;
const FAULTS_MS = 5_000;
/** A key is refused, or not, for this long. */
const SLOT_MS = 600;
const ITEMS = 24;
const READERS = 6;
const REFUSED_LEAST = 20;
const READS_LEAST = 200;

let stack: WorkerStack;
let faults: UpstashFaults;
beforeAll(async () => {
  stack = await startWorkerStack();
  faults = await startUpstashFaults(stack.gateway.url);
});
afterEach((test) => killAllWorkers(test));
afterAll(async () => {
  await faults.close();
  await stack.close();
});

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** The same answer for one key in one slot. */
function isRefused(key: string, slot: number): boolean {
  let hash = SEED + slot * 7_919;
  for (const character of key) hash = Math.imul(hash ^ character.charCodeAt(0), 16_777_619) >>> 0;
  return random(hash)() < 0.3;
}

it('no read is older than what was confirmed before it began', async () => {
  // Half of the items are invalidated by a watch, half by hand with a pattern that has to be swept.
  await stack.sql.query(`
    create table public.items (id integer primary key, version integer not null default 0);
    insert into public.items select n from generate_series(0, ${ITEMS - 1}) as n;
    create table public.swept_items (like public.items);
    insert into public.swept_items table public.items;
    select cache_invalidation.watch('public.items', 'item:{id}:*');`);
  const worker = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: faults.url }));
  await asleep(worker);
  const cache = createCache({ url: stack.gateway.url, token: TOKEN, log: () => undefined });

  const keyOf = (swept: boolean, id: number) => (swept ? `swept:${id}:a` : `item:${id}:a`);
  const tableOf = (swept: boolean) => (swept ? 'public.swept_items' : 'public.items');
  const load = async (swept: boolean, id: number): Promise<number> => {
    const text = `select version from ${tableOf(swept)} where id = $1`;
    return (await stack.sql.query<{ version: number }>(text, [id])).rows[0]?.version ?? -1;
  };
  const write = async (swept: boolean, id: number): Promise<void> => {
    const text = `update ${tableOf(swept)} set version = version + 1 where id = $1`;
    if (!swept) await stack.sql.query(text, [id]);
    else
      await stack.sql.query(
        `with written as (${text} returning id) select cache_invalidation.invalidate('swept:' || id || '*:a') from written`,
        [id],
      );
  };

  /** Of each key: a version whose invalidation, and those of all before it, were in neither table any more. */
  const confirmed = new Map<string, number>();
  const lookAtTables = async (): Promise<void> => {
    const { rows } = await stack.sql.query<{ key: string; version: number }>(
      `with unconfirmed as (select target from cache_invalidation.outbox union all select target from cache_invalidation.pending),
            written as (
              select 'item:' || id || ':a' as key, 'item:' || id || ':*' as target, version from public.items
              union all
              select 'swept:' || id || ':a', 'swept:' || id || '*:a', version from public.swept_items
            )
       select key, version from written where target not in (select target from unconfirmed)`,
    );
    for (const { key, version } of rows) confirmed.set(key, Math.max(version, confirmed.get(key) ?? 0));
  };

  const startedAt = performance.now();
  let refused = 0;
  faults.set({
    kind: 'answer',
    status: 400,
    body: '{"error":"NOPERM No permissions to access a key"}',
    only: {
      test: (body) => {
        const [command, ...keys] = JSON.parse(body) as unknown[];
        const slot = Math.floor((performance.now() - startedAt) / SLOT_MS);
        const isOne =
          String(command).toLowerCase() === 'del' &&
          keys.some((key) => /^fence:(item|swept):/.test(String(key)) && isRefused(String(key), slot));
        if (isOne) refused++;
        return isOne;
      },
    },
  });

  let reads = 0;
  const stale: string[] = [];
  const read = async (swept: boolean, id: number): Promise<number> => {
    const key = keyOf(swept, id);
    const least = confirmed.get(key) ?? 0;
    const version = await cache.getOrSet(key, () => load(swept, id), 60);
    reads++;
    if (version < least) stale.push(`${key}: ${version} although ${least} was confirmed`);
    return version;
  };
  const until = async (seed: number, work: (next: () => number) => Promise<unknown>): Promise<void> => {
    const next = random(SEED + seed);
    // On a busy machine it takes longer.
    while (performance.now() - startedAt < FAULTS_MS || refused < REFUSED_LEAST || reads < READS_LEAST)
      await work(next);
  };
  await Promise.all([
    until(0, lookAtTables),
    until(1, (next) => write(next() < 0.3, Math.floor(next() * ITEMS))),
    ...Array.from({ length: READERS }, (_, reader) =>
      until(2 + reader, (next) => read(next() < 0.5, Math.floor(next() * ITEMS))),
    ),
  ]);
  faults.set({ kind: 'none' });
  expect(stale).toEqual([]);

  // Redis takes everything again: what was refused is confirmed, and every answer is the last one.
  // Without their pauses, which have grown; a new sweep starts a run.
  await stack.sql.query('update cache_invalidation.pending set due_at = clock_timestamp()');
  await stack.sql.query("select cache_invalidation.invalidate('swept:none*:a')");
  await expect
    .poll(
      async () => {
        await lookAtTables();
        const left = await stack.sql.query(
          'select from cache_invalidation.outbox union all select from cache_invalidation.pending',
        );
        return left.rowCount;
      },
      { timeout: 60_000 },
    )
    .toBe(0);
  for (let id = 0; id < ITEMS; id++)
    for (const swept of [false, true]) expect(await read(swept, id)).toBe(await load(swept, id));
});
