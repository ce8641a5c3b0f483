/**
 * The interleaving property. Readers, writers, two workers' heartbeats, evictions, expiries and network faults take their steps in
 * the orders that fast-check's scheduler chooses, on the real cache module and the real heartbeat over ScheduledRedis.
 *
 * The invariant: a read that starts after an invalidation was acknowledged never returns a value older than the row was
 * when that invalidation was written. A row's value is its version here, so "older" is "smaller".
 */
import type { Scheduler } from 'fast-check';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { deletionsFor, fencesOf } from '../../supabase/functions/_shared/cache/protocol/fences.ts';
import { type Cache, createCache } from '../../supabase/functions/_shared/cache.ts';
import type { Heartbeat } from '../../worker/src/delivery/heartbeat.ts';
import { FormerClient } from './former-client.ts';
import {
  type Action,
  KEYS,
  type Key,
  REPORT,
  REPORT_DEPENDS_ON,
  REPORT_PARTS,
  type Scenario,
} from './scenarios.ts';
import { type Clock, type Sabotage, ScheduledRedis } from './scheduled-redis.ts';
import { scheduledRuntime } from './scheduled-runtime.ts';
import { ScheduledWorkers } from './scheduled-worker.ts';

/** Runs one schedule; throws with what was read when the invariant does not hold. */
export async function runScenario(chosen: Scenario, sabotage: Sabotage | null): Promise<void> {
  await new World(chosen, sabotage).run();
}

/**
 * Runs one schedule of a herd; throws when there was more than one load, and one more for each invalidation. Nothing is promised where a
 * load that was invalidated ends after the one that took its place: its answer replaces the good one.
 */
export async function runHerd(chosen: Scenario, sabotage: Sabotage | null): Promise<void> {
  const world = new World(chosen, sabotage);
  await world.run();
  const { overwritten, invalidations } = world.redis;
  if (overwritten === 0 && world.loads > 1 + invalidations)
    throw new Error(`${world.loads} loads for one herd and ${invalidations} invalidations`);
}

class World {
  readonly #scenario: Scenario;
  readonly #scheduler: Scheduler;
  readonly #clock: Clock = { now: 1_793_527_200_000 };
  readonly redis: ScheduledRedis;
  readonly #caches: readonly Cache[];
  readonly #former: FormerClient;
  readonly #workers: readonly [Heartbeat, Heartbeat];
  /** The row behind each key, and the version that the last acknowledged invalidation was about. */
  readonly #committed = new Map<Key, number>(KEYS.map((name) => [name, 0]));
  readonly #acknowledged = new Map<Key, number>(KEYS.map((name) => [name, 0]));
  #tokens = 0;
  /** Calls of getOrSet's loaders. */
  loads = 0;

  constructor(chosen: Scenario, sabotage: Sabotage | null) {
    this.#scenario = chosen;
    this.#scheduler = chosen.scheduler;
    const faults = [...chosen.faults];
    this.redis = new ScheduledRedis(this.#scheduler, this.#clock, () => faults.pop() ?? 'none', sabotage);
    const runtime = scheduledRuntime(
      this.#clock,
      (label) => this.#step(label),
      () => this.#token(),
      sabotage === 'no memory',
    );
    const open = (name: string): Cache =>
      createCache({
        connection: this.redis.connect(name),
        runtime,
        degradedMaxAge: chosen.degradedMaxAge,
        lease: chosen.lease,
        local: chosen.local ? { ttl: 60_000, max: 1_000 } : undefined,
        log: () => {},
      });
    this.#caches = ['A', 'B', 'C'].map(open);
    this.#former = new FormerClient(
      this.redis.connect('former'),
      () => this.#clock.now,
      () => this.#token(),
    );
    const workers = new ScheduledWorkers(
      this.redis,
      (label) => this.#step(label),
      () => this.#token(),
    );
    this.#workers = [workers.heartbeatOf('worker 1'), workers.heartbeatOf('worker 2')];
  }

  async run(): Promise<void> {
    const begun = this.#startEpoch();
    const actors = this.#scenario.actors.map((actions) => this.#act(actions, begun));
    await this.#scheduler.waitIdle();
    await Promise.all(actors);
  }

  async #act(actions: readonly Action[], begun: Promise<void>): Promise<void> {
    await begun;
    for (const next of actions) {
      for (let steps = 0; steps < next.pause; steps++) await this.#step('pause');
      await this.#take(next);
    }
  }

  async #take(next: Action): Promise<void> {
    switch (next.kind) {
      case 'getOrSet':
        return this.#check(
          [next.key],
          async (cache) => [await cache.getOrSet(next.key, () => this.#load(next.key), next.ttl)],
          next.isolate,
        );
      case 'stale': {
        const options = { staleWhileRevalidate: 300, staleIfError: 300 };
        return this.#check(
          [next.key],
          async (cache) => [await cache.getOrSet(next.key, () => this.#load(next.key), 1, options)],
          next.isolate,
        );
      }
      case 'getOrSetMany':
        return this.#check(
          next.keys,
          async (cache) => {
            const found = await cache.getOrSetMany(next.keys, async (missing) => {
              await this.#step('SELECT arrives');
              const rows = missing.map((name) => [name, this.#row(name as Key)] as const);
              await this.#step('SELECT is answered');
              return new Map(rows);
            });
            return next.keys.map((name) => found.get(name));
          },
          next.isolate,
        );
      case 'get, load, set':
        return this.#check(
          [next.key],
          async (cache) => {
            const startedAt = this.#clock.now;
            const cached = await cache.get<Row>(next.key);
            if (cached !== null && !next.always) return [cached];
            const row = await this.#load(next.key);
            // Rule 8 covers 30 s. For slower loads the documentation says to use begin().
            if (this.#clock.now - startedAt <= 30_000) await cache.set(next.key, row);
            return [row];
          },
          next.isolate,
        );
      case 'begin, load, set':
        return this.#check(
          [next.key],
          async (cache) => {
            const token = await cache.begin(next.key);
            const row = await this.#load(next.key);
            await cache.set(next.key, row, 60, token);
            return [row];
          },
          next.isolate,
        );
      case 'report':
        return this.#report(next.depends, next.isolate);
      case 'former getOrSet':
        return this.#checkRead([next.key], async () => [
          await this.#former.getOrSet(next.key, () => this.#load(next.key)),
        ]);
      case 'write':
        return this.#write(next.key, next.reach, next.by);
      case 'evict': {
        await this.#step('eviction');
        const names = this.redis.keys();
        const { victim } = next;
        if (victim === 'heartbeat') this.redis.evict(HEARTBEAT_KEY);
        else if (victim === 'epoch') this.redis.evict(EPOCH_KEY);
        else this.redis.evict(names[victim % Math.max(1, names.length)] ?? '');
        return;
      }
      case 'beat': {
        await this.#step('a beat');
        const heartbeat = this.#workers[next.worker === 0 ? 0 : 1];
        heartbeat.beatIfDue();
        return heartbeat.settled();
      }
      case 'time passes':
        await this.#step('time passes');
        this.#clock.now += next.milliseconds;
    }
  }

  #check(
    names: readonly Key[],
    read: (cache: Cache) => Promise<(Row | undefined)[]>,
    which: number,
  ): Promise<void> {
    return this.#checkRead(names, () => read(this.#cache(which)));
  }

  /** An answer that holds parts was loaded by a caller that named them, whoever reads it. */
  #report(depends: boolean, which: number): Promise<void> {
    const load = async (): Promise<Report> => {
      await this.#step('SELECT arrives');
      const parts = REPORT_PARTS.map((name) => this.#row(name));
      await this.#step('SELECT is answered');
      return { parts: depends ? parts : null };
    };
    const options = depends ? { dependsOn: REPORT_DEPENDS_ON } : {};
    return this.#checkRead(REPORT_PARTS, async (owed) => {
      const { parts } = await this.#cache(which).getOrSet(REPORT, load, 60, options);
      return (
        parts ?? REPORT_PARTS.map((name, index) => ({ key: name, version: owed[index] ?? 0, fences: [] }))
      );
    });
  }

  async #checkRead(
    names: readonly Key[],
    read: (owed: readonly number[]) => Promise<readonly (Row | undefined)[]>,
  ): Promise<void> {
    await this.#step('a reader starts');
    const owed = names.map((name) => this.#acknowledged.get(name) ?? 0);
    const rows = await read(owed);
    names.forEach((name, index) => {
      const row = rows[index];
      if (row?.key !== name || row.version < (owed[index] ?? 0)) {
        throw new Error(
          `${name}: read ${JSON.stringify(row)}, but version ${owed[index]} was acknowledged before`,
        );
      }
    });
  }

  async #write(
    name: Key,
    reach: 'key' | 'group' | 'type' | 'all',
    by: 'worker' | 'application',
  ): Promise<void> {
    await this.#step('COMMIT');
    const version = (this.#committed.get(name) ?? 0) + 1;
    this.#committed.set(name, version);
    const [type = '', entity = ''] = name.split(':');
    const target = { key: name, group: `${type}:${entity}:*`, type: `${type}:*`, all: '*' }[reach];
    if (by === 'application') {
      // Not acknowledged: nothing is promised.
      if ((await this.#cache(0).delPattern(target)) === null) return;
    } else if (reach === 'all') await this.#startEpoch();
    else await this.redis.invalidate(`invalidation of ${target}`, deletionsFor(target).keys);
    this.#acknowledged.set(name, Math.max(version, this.#acknowledged.get(name) ?? 0));
  }

  /** As the delivery loop does with the target `*`: again until Redis has acknowledged. A scenario has only so many faults. */
  async #startEpoch(): Promise<void> {
    for (;;) {
      try {
        return await this.#workers[0].startEpoch('asked for');
      } catch {}
    }
  }

  #cache(which: number): Cache {
    const cache = this.#caches[which];
    if (cache === undefined) throw new Error('There are three isolates.');
    return cache;
  }

  async #load(name: Key): Promise<Row> {
    this.loads++;
    await this.#step('SELECT arrives');
    const row = this.#row(name);
    await this.#step('SELECT is answered');
    return row;
  }

  #row(name: Key): Row {
    const fences = [...fencesOf(name, name.startsWith('quota:') ? 2 : undefined), EPOCH_KEY];
    return { key: name, version: this.#committed.get(name) ?? 0, fences };
  }

  #step(label: string): Promise<void> {
    return this.#scheduler.schedule(Promise.resolve(), label);
  }

  #token(): string {
    return `token-${this.#tokens++}`;
  }
}

interface Report {
  readonly parts: readonly Row[] | null;
}

interface Row {
  readonly key: string;
  readonly version: number;
  /** The fences of the key, for the sabotage that stamps at store. */
  readonly fences: readonly string[];
}
