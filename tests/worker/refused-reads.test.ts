/**
 * Confirmed means confirmed: Redis refuses some DELs and takes others, key by key, at random from a seed, for seconds. Writers
 * write, readers read through the real cache module. For every read: an invalidation that stood in neither outbox nor `pending`
 * when the read began has been confirmed, so the answer is not older.
 */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { random } from '../support/random.ts';
import { startUpstashFaults, type UpstashFaults } from './support/upstash-faults.ts';
import { asleep, killAllWorkers, startWorkerProcess, type WorkerProcess } from './support/worker-process.ts';
import { startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

const SEED = 20_261_129;
const FAULTS_MS = 5_000;
/** A key is refused, or not, for this long. */
const SLOT_MS = 600;
const ITEMS = 24;
/** Those that are written nearly always. The others are written again once they have been confirmed. */
const BUSY_ITEMS = 4;
const READERS = 6;
const REFUSED_LEAST = 20;
const READS_LEAST = 200;
/** By how much the second run's loaders are behind, and the setting that allows for it. */
const BEHIND_MS = 1_000;
const LAG_SECONDS = 2;
const KILLED = 3;
/** Of each kind: how often a new version was confirmed. */
const CONFIRMED_LEAST = 3;
const KILLED_EVERY_MS = 2_500;

/** Invalidated by a watch, by a watch with a min_interval, and by hand with a pattern that has to be swept. */
const KINDS = ['item', 'slow', 'swept'] as const;
type Kind = (typeof KINDS)[number];

let stack: WorkerStack;
let faults: UpstashFaults;
beforeAll(async () => {
  stack = await startWorkerStack();
  faults = await startUpstashFaults(stack.gateway.url);
  await stack.sql.query(`
    create table public.history (kind text, id integer, version integer, at timestamptz default clock_timestamp());
    create index on public.history (kind, id, at);
    ${KINDS.map((kind) => `create table public.${kind} (id integer primary key, version integer not null)`).join(';')};
    select cache_invalidation.watch('public.item', 'item:{id}:*');
    select cache_invalidation.watch('public.slow', 'slow:{id}:*', min_interval => '300 milliseconds')`);
});
afterEach((test) => killAllWorkers(test));
afterAll(async () => {
  await faults.close();
  await stack.close();
});

/** The same answer for one key in one slot. */
function isRefused(key: string, slot: number): boolean {
  let hash = SEED + slot * 7_919;
  for (const character of key) hash = Math.imul(hash ^ character.charCodeAt(0), 16_777_619) >>> 0;
  return random(hash)() < 0.3;
}

it.each([
  { name: 'one worker', kills: false, behind: false },
  { name: 'leaders killed at their DELs, loaders on a replica that lags', kills: true, behind: true },
])('no read is older than what was confirmed before it began: $name', async ({ kills, behind }) => {
  await stack.sql.query(
    `truncate public.history; ${KINDS.map((kind) => `truncate public.${kind}; insert into public.${kind} select n, 0 from generate_series(0, ${ITEMS - 1}) as n`).join(';')};
     insert into public.history select kind, n, 0, '-infinity' from unnest('{${KINDS}}'::text[]) as kind, generate_series(0, ${ITEMS - 1}) as n`,
  );
  const environment = stack.environment({
    UPSTASH_REDIS_REST_URL: faults.url,
    FENCEPOST_REPLICA_LAG_SECONDS: behind ? String(LAG_SECONDS) : '0',
  });
  const start = () => startWorkerProcess(environment);
  const workers: WorkerProcess[] = [start()];
  if (workers[0] !== undefined) await asleep(workers[0]);
  if (kills) workers.push(start());
  const cache = stack.reader();

  const keyOf = (kind: Kind, id: number) => `${kind}:${id}:${behind ? 'b' : 'a'}`;
  const current = `select version from public.KIND where id = $1`;
  const old = `select version from public.history where kind = 'KIND' and id = $1
      and at <= clock_timestamp() - ${BEHIND_MS} * interval '1 millisecond' order by at desc limit 1`;
  const load = async (kind: Kind, id: number, query = behind ? old : current): Promise<number> =>
    (await stack.sql.query<{ version: number }>(query.replace('KIND', kind), [id])).rows[0]?.version ?? -1;
  const write = async (kind: Kind, id: number): Promise<void> => {
    await stack.sql.query(
      `with written as (update public.${kind} set version = version + 1 where id = $1 returning version),
         kept as (insert into public.history select '${kind}', $1, version from written)
       select ${kind === 'swept' ? `cache_invalidation.invalidate('swept:' || $1::integer || '*:?')` : '1'} from written`,
      [id],
    );
  };

  /** Of each key: a version whose invalidation, and those of all before it, were in neither table any more. */
  const confirmed = new Map<string, number>();
  const confirmations = { item: 0, slow: 0, swept: 0 };
  const lookAtTables = async (): Promise<void> => {
    const { rows } = await stack.sql.query<{ kind: Kind; id: number; version: number }>(
      `with unconfirmed as (select target from cache_invalidation.outbox union all select target from cache_invalidation.pending),
            written as (${KINDS.map((kind) => `select '${kind}' as kind, id, version from public.${kind}`).join(' union all ')})
       select kind, id, version from written
        where kind || ':' || id || case kind when 'swept' then '*:?' else ':*' end not in (select target from unconfirmed)`,
    );
    for (const { kind, id, version } of rows) {
      const key = keyOf(kind, id);
      if (version <= (confirmed.get(key) ?? 0)) continue;
      confirmed.set(key, version);
      confirmations[kind]++;
    }
  };

  const written = new Map<string, number>();
  const writeOne = (kind: Kind, id: number): Promise<void> => {
    const key = keyOf(kind, id);
    const version = written.get(key) ?? 0;
    if (version > (confirmed.get(key) ?? 0)) return write(kind, id % BUSY_ITEMS);
    written.set(key, version + 1);
    return write(kind, id);
  };

  const startedAt = performance.now();
  const chance = random(SEED);
  let refused = 0;
  let killed = 0;
  let killedAt = startedAt;
  /** In the midst of its work: before Redis has done it, or after that and before anything is acknowledged. */
  const killLeader = (): void => {
    const leader = workers.find(({ lines }) => lines.some(({ role }) => role === 'leading'));
    if (leader === undefined || killed === KILLED || performance.now() - killedAt < KILLED_EVERY_MS) return;
    killedAt = performance.now();
    killed++;
    workers.splice(workers.indexOf(leader), 1, start());
    setTimeout(() => leader.signal('SIGKILL'), chance() * 10);
  };
  faults.set({
    kind: 'answer',
    status: 400,
    body: '{"error":"NOPERM No permissions to access a key"}',
    only: {
      test: (body) => {
        const [command, ...keys] = JSON.parse(body) as unknown[];
        const slot = Math.floor((performance.now() - startedAt) / SLOT_MS);
        const fences = keys.filter((key) => /^fence:(item|slow|swept):/.test(String(key)));
        if (String(command).toLowerCase() !== 'del' || fences.length === 0) return false;
        if (kills && chance() < 0.2) killLeader();
        const isOne = fences.some((key) => isRefused(String(key), slot));
        if (isOne) refused++;
        return isOne;
      },
    },
  });

  let reads = 0;
  const stale: string[] = [];
  const read = async (kind: Kind, id: number): Promise<number> => {
    const key = keyOf(kind, id);
    const least = confirmed.get(key) ?? 0;
    const version = await cache.getOrSet(key, () => load(kind, id), 60);
    reads++;
    if (version < least) stale.push(`${key}: ${version} although ${least} was confirmed`);
    return version;
  };
  const anyKind = (next: () => number) => KINDS[Math.floor(next() * KINDS.length)] ?? 'item';
  const until = async (seed: number, work: (next: () => number) => Promise<unknown>): Promise<void> => {
    const next = random(SEED + seed);
    const isOver = () =>
      performance.now() - startedAt >= FAULTS_MS &&
      refused >= REFUSED_LEAST &&
      reads >= READS_LEAST &&
      killed >= (kills ? KILLED : 0) &&
      KINDS.every((kind) => confirmations[kind] >= CONFIRMED_LEAST);
    // On a busy machine it takes longer.
    while (!isOver()) await work(next);
  };
  await Promise.all([
    until(0, lookAtTables),
    until(1, (next) => writeOne(anyKind(next), Math.floor(next() * ITEMS))),
    ...Array.from({ length: READERS }, (_, reader) =>
      until(2 + reader, (next) => read(anyKind(next), Math.floor(next() * ITEMS))),
    ),
  ]);
  faults.set({ kind: 'none' });
  expect(stale).toEqual([]);
  // Redis takes everything again: what was refused is confirmed, and every answer is the last one.
  // Without their pauses, which have grown; a new sweep starts a run.
  await stack.sql.query(
    "update cache_invalidation.pending set due_at = clock_timestamp() where why not like 'second%'",
  );
  await stack.sql.query("select cache_invalidation.invalidate('swept:none*:a')");
  await expect
    .poll(async () => {
      await lookAtTables();
      const left = await stack.sql.query(
        'select from cache_invalidation.outbox union all select from cache_invalidation.pending',
      );
      return left.rowCount;
    })
    .toBe(0);
  for (let id = 0; id < ITEMS; id++)
    for (const kind of KINDS) expect(await read(kind, id)).toBe(await load(kind, id, current));
});
