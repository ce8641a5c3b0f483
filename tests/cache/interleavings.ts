/**
 * The interleaving property. Readers, writers, two workers' heartbeats, evictions, expiries and network faults take their steps in
 * the orders that fast-check's scheduler chooses, on the real cache module and the real heartbeat over ScheduledRedis.
 *
 * The invariant: a read that starts after an invalidation was acknowledged never returns a value older than the row was
 * when that invalidation was written. A row's value is its version here, so "older" is "smaller".
 */
import type { Scheduler } from 'fast-check';
import { HUNG_AFTER_MS } from '../../supabase/functions/_shared/cache/client/single-flight.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { deletionsFor, fencesOf } from '../../supabase/functions/_shared/cache/protocol/fences.ts';
import type { Runtime } from '../../supabase/functions/_shared/cache/redis/runtime.ts';
import { type Cache, createCache } from '../../supabase/functions/_shared/cache.ts';
import { DeliveryHealth } from '../../worker/src/delivery/health.ts';
import { Heartbeat } from '../../worker/src/delivery/heartbeat.ts';
import { type Action, KEYS, type Key, type Scenario } from './scenarios.ts';
import { type Clock, type Sabotage, ScheduledRedis } from './scheduled-redis.ts';

/** Runs one schedule; throws with what was read when the invariant does not hold. */
export async function runScenario(chosen: Scenario, sabotage: Sabotage | null): Promise<void> {
  await new World(chosen, sabotage).run();
}

/** Runs one schedule of a herd; throws when there was more than one load. */
export async function runHerd(chosen: Scenario, sabotage: Sabotage | null): Promise<void> {
  const world = new World(chosen, sabotage);
  await world.run();
  if (world.loads !== 1) throw new Error(`${world.loads} loads for one herd`);
}

class World {
  readonly #scenario: Scenario;
  readonly #scheduler: Scheduler;
  readonly #clock: Clock = { now: 1_793_527_200_000 };
  readonly #redis: ScheduledRedis;
  readonly #caches: readonly Cache[];
  readonly #workers: readonly [Heartbeat, Heartbeat];
  /** Postgres's one row. */
  #epoch = 'epoch of the migration';
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
    this.#redis = new ScheduledRedis(this.#scheduler, this.#clock, () => faults.pop() ?? 'none', sabotage);
    const open = (name: string): Cache =>
      createCache({
        connection: this.#redis.connect(name),
        runtime: this.#runtime(),
        degradedMaxAge: chosen.degradedMaxAge,
        lease: chosen.lease,
        log: () => {},
      });
    this.#caches = ['A', 'B', 'C'].map(open);
    this.#workers = [this.#worker('worker 1'), this.#worker('worker 2')];
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
          async (cache) => {
            return [await cache.getOrSet(next.key, () => this.#load(next.key), next.ttl)];
          },
          next.isolate,
        );
      case 'stale': {
        const options = { staleWhileRevalidate: 300, staleIfError: 300 };
        return this.#check(
          [next.key],
          async (cache) => {
            return [await cache.getOrSet(next.key, () => this.#load(next.key), 1, options)];
          },
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
            if (cached !== null) return [cached];
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
      case 'write':
        return this.#write(next.key, next.reach, next.by);
      case 'evict': {
        await this.#step('eviction');
        const names = this.#redis.keys();
        const { victim } = next;
        if (victim === 'heartbeat') this.#redis.evict(HEARTBEAT_KEY);
        else if (victim === 'epoch') this.#redis.evict(EPOCH_KEY);
        else this.#redis.evict(names[victim % Math.max(1, names.length)] ?? '');
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

  async #check(
    names: readonly Key[],
    read: (cache: Cache) => Promise<(Row | undefined)[]>,
    which: number,
  ): Promise<void> {
    await this.#step('a reader starts');
    const owed = names.map((name) => this.#acknowledged.get(name) ?? 0);
    const rows = await read(this.#cache(which));
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
    else await this.#redis.invalidate(`invalidation of ${target}`, deletionsFor(target).keys);
    this.#acknowledged.set(name, Math.max(version, this.#acknowledged.get(name) ?? 0));
  }

  /** As the delivery loop does with the target `*`: again until Redis has acknowledged. */
  async #startEpoch(): Promise<void> {
    for (;;) {
      try {
        return await this.#workers[0].startEpoch('asked for');
      } catch {
        // The scenario has only so many faults.
      }
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
    const fences = [...fencesOf(name, name.startsWith('cost:') ? 3 : 2), EPOCH_KEY];
    return { key: name, version: this.#committed.get(name) ?? 0, fences };
  }

  #step(label: string): Promise<void> {
    return this.#scheduler.schedule(Promise.resolve(), label);
  }

  #worker(name: string): Heartbeat {
    const health = new DeliveryHealth(() => 0);
    health.emptied();
    const heartbeat: Heartbeat = new Heartbeat({
      cache: this.#redis.serve(name),
      outbox: {
        epoch: async () => {
          await this.#step(`${name} SELECT epoch`);
          return this.#epoch;
        },
        newEpoch: async () => {
          await this.#step(`${name} new_epoch()`);
          this.#epoch = this.#token();
          const epoch = this.#epoch;
          await this.#step(`${name} new_epoch() is answered`);
          return epoch;
        },
        confirmEpoch: async (epoch) => {
          await this.#step(`${name} UPDATE epoch`);
          return this.#epoch === epoch;
        },
      },
      databaseUrl: '',
      health,
      intervalMs: 0,
      // A beat that failed is repeated without waiting.
      onError: () => heartbeat.reset(),
      onNewEpoch: () => {},
    });
    return heartbeat;
  }

  #token(): string {
    return `token-${this.#tokens++}`;
  }

  #runtime(): Runtime {
    return {
      now: () => this.#clock.now,
      monotonic: () => this.#clock.now,
      randomToken: () => this.#token(),
      random: () => 0.5,
      sleep: async (milliseconds) => {
        // A load hangs because of time, not of order. If the clock jumped that far, nothing would be fresh any more.
        if (milliseconds > HUNG_AFTER_MS / 2) return new Promise(() => {});
        const until = this.#clock.now + milliseconds;
        await this.#step('a sleep ends');
        this.#clock.now = Math.max(this.#clock.now, until);
      },
      background: () => {},
    };
  }
}

interface Row {
  readonly key: string;
  readonly version: number;
  /** The fences of the key, for the sabotage that stamps at store. */
  readonly fences: readonly string[];
}
