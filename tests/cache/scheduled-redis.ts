/**
 * A Redis in memory whose every step waits for a scheduler, for the interleaving tests alone. They test the order of events; what the
 * cache sends to a real Redis is tested against a real one (conformance/).
 *
 * A request is three steps that the scheduler may put anywhere: it arrives, each of its commands is executed (a pipeline
 * is ordered but not atomic), its reply arrives. A request may also be lost, executed without its reply, or executed long
 * after its sender gave up.
 */
import type { Scheduler } from 'fast-check';
import { readEnvelope } from '../../supabase/functions/_shared/cache/protocol/entry.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import type { Connection, Exchange } from '../../supabase/functions/_shared/cache/redis/upstash.ts';
import type { Reply, Write } from '../../supabase/functions/_shared/cache/redis/writes.ts';
import type { HeartbeatParts } from '../../worker/src/delivery/heartbeat.ts';

/** Ways to build the cache wrong, each of which the invariant must notice. */
export type Sabotage =
  /** Fences that are always there and never change: what every cache without fences does (rule 4). */
  | 'no fences'
  /** An entry's version stamp has the fences as they are when it is stored (rule 3). */
  | 'stamp at store'
  /** SET NX GET is sent again when its reply is late, as the client's retries do (rule 1). */
  | 'repeated create'
  /** The epoch and the heartbeat are the same for ever (rule 10). */
  | 'no epoch'
  /** The heartbeat alone tells the epoch; without it entries of any epoch are young or not. */
  | 'epoch in the heartbeat'
  /** If the epoch is missing, the one before is put back. */
  | 'revived epoch'
  /** A lease is given back when its answer is stored. */
  | 'release after store'
  /** Every isolate that proposes a fence takes it for its own. */
  | 'every creation won'
  /** A lease's name holds whatever is stored under the key, also what an invalidated load has stored. */
  | 'dead entry in the lease'
  /** An entry forgets what it depends on. */
  | 'own fences alone'
  /** A group in dependsOn stands behind its own fence alone, which exact targets leave. */
  | 'group fence alone'
  /** `set` finds no `get` before it (rule 8); the clock of the isolates does it. */
  | 'no memory';

export type Fault = 'none' | 'lost request' | 'lost reply' | 'late request';

export interface Clock {
  now: number;
}

export class ScheduledRedis {
  readonly #scheduler: Scheduler;
  readonly #clock: Clock;
  readonly #sabotage: Sabotage | null;
  readonly #nextFault: () => Fault;
  readonly #data = new Map<string, { value: string; until: number }>();
  #lastEpoch: string | null = null;
  /** How often an entry that could be read was replaced by one that was dead on arrival. */
  overwritten = 0;
  /** By a worker. */
  invalidations = 0;

  constructor(scheduler: Scheduler, clock: Clock, nextFault: () => Fault, sabotage: Sabotage | null) {
    this.#scheduler = scheduler;
    this.#clock = clock;
    this.#nextFault = nextFault;
    this.#sabotage = sabotage;
  }

  /** A connection of one isolate. */
  connect(isolate: string): Connection {
    return {
      getMany: (keys) => this.#request(`${isolate} MGET`, async () => this.#read(keys)),
      write: (writes) => this.#request(`${isolate} ${names(writes)}`, () => this.#pipeline(isolate, writes)),
      writeThenRead: (writes, keys) =>
        this.#request(`${isolate} ${names(writes)} MGET`, async (): Promise<Exchange> => {
          const replies = await this.#pipeline(isolate, writes);
          await this.#step(`${isolate} MGET executed`);
          return { replies, values: this.#read(keys) };
        }),
      scan: async () => ({ cursor: '0', keys: [] }),
      health: async () => {
        return {
          keyCount: this.#data.size,
          heartbeat: this.#get(HEARTBEAT_KEY),
          epoch: this.#get(EPOCH_KEY),
        };
      },
    };
  }

  /** What a worker's heartbeat asks for. */
  serve(worker: string): HeartbeatParts['cache'] {
    return {
      getAndRenew: (key, seconds) =>
        this.#request(`${worker} GETEX`, async () => {
          const value = this.#get(key);
          if (value !== null) this.#set(key, value, seconds * 1_000);
          return value;
        }),
      get: (key) => this.#request(`${worker} GET`, async () => this.#get(key)),
      setTogether: (entries) =>
        this.#request(`${worker} MULTI`, async () => {
          for (const { key, value, seconds } of entries) {
            this.#set(key, value, seconds === null ? Infinity : seconds * 1_000);
          }
        }),
    };
  }

  /** A worker's DEL, without faults: it repeats until Redis has acknowledged. */
  async invalidate(label: string, keys: readonly string[]): Promise<void> {
    await this.#step(`${label} arrives`);
    const misses = this.#sabotage === 'group fence alone' && keys[0]?.startsWith('fence:') === false;
    this.invalidations++;
    this.#execute({ op: 'delete', keys: misses ? keys.filter((key) => key !== 'fence:quota:org-1') : keys });
  }

  /** What eviction and an operator may do at any time. */
  evict(key: string): void {
    this.#data.delete(key);
  }

  keys(): string[] {
    return [...this.#data.keys()];
  }

  async #request<T>(label: string, run: () => Promise<T>): Promise<T> {
    const fault = this.#nextFault();
    if (fault === 'late request') {
      void this.#step(`${label} arrives late`).then(run);
      throw new Error('no reply in time');
    }
    await this.#step(`${label} arrives`);
    if (fault === 'lost request') throw new Error('connection reset');
    const result = await run();
    await this.#step(`${label} is answered`);
    if (fault === 'lost reply') throw new Error('connection reset');
    return result;
  }

  async #pipeline(isolate: string, writes: readonly Write[]): Promise<Reply[]> {
    const replies: Reply[] = [];
    for (const write of writes) {
      if (replies.length > 0) await this.#step(`${isolate} next command of a pipeline`);
      replies.push(this.#execute(write));
      if (write.op === 'create' && this.#sabotage === 'repeated create') {
        void this.#step(`${isolate} create once more`).then(() => this.#execute(write));
      }
    }
    return replies;
  }

  #step(label: string): Promise<void> {
    return this.#scheduler.schedule(Promise.resolve(), label);
  }

  #read(keys: readonly string[]): (string | null)[] {
    return keys.map((key) => {
      if (this.#sabotage === 'no fences' && key.startsWith('fence:')) return 'always';
      if (this.#sabotage === 'no epoch' && (key === EPOCH_KEY || key === HEARTBEAT_KEY)) return 'always';
      if (this.#sabotage === 'epoch in the heartbeat' && key === EPOCH_KEY) {
        return this.#get(HEARTBEAT_KEY) ?? epochOf(this.#get(keys[0] ?? '')) ?? 'none';
      }
      return this.#get(this.#leaseName(key));
    });
  }

  #leaseName(name: string): string {
    if (this.#sabotage !== 'dead entry in the lease') return name;
    const [, key] = /^fencepost:lease:(.*):[^:]*$/.exec(name) ?? [];
    return key === undefined ? name : `${name} ${this.#get(key)}`;
  }

  /** Whether an entry's fences stand; its row names them. */
  #stands(entry: string | null): boolean {
    if (entry === null) return false;
    const { f, d }: { f: string[]; d?: { fences?: string[] } } = JSON.parse(entry);
    return (d?.fences ?? []).every((fence, place) => this.#get(fence) === f[place]);
  }

  #get(key: string): string | null {
    const held = this.#data.get(key);
    if (held === undefined || held.until <= this.#clock.now) return null;
    return held.value;
  }

  #execute(write: Write): Reply {
    switch (write.op) {
      case 'create': {
        const found = this.#sabotage === 'every creation won' ? null : this.#get(write.key);
        this.#setIfAbsent(write.key, write.value, write.seconds === null ? Infinity : write.seconds * 1_000);
        return found;
      }
      case 'create-only':
        return this.#setIfAbsent(
          write.key,
          write.value,
          write.seconds === null ? Infinity : write.seconds * 1_000,
        );
      case 'claim':
        return this.#setIfAbsent(this.#leaseName(write.key), write.value, write.milliseconds);
      case 'put':
        if (this.#stands(this.#get(write.key)) && !this.#stands(write.value)) this.overwritten++;
        this.#set(write.key, this.#stamped(write.value), write.milliseconds);
        if (this.#sabotage === 'release after store') {
          for (const key of this.keys())
            if (key.startsWith(`fencepost:lease:${write.key}:`)) this.#data.delete(key);
        }
        return 'OK';
      case 'delete': {
        const there = write.keys.filter((key) => this.#get(key) !== null);
        for (const key of write.keys) this.#data.delete(key);
        return there.length;
      }
      case 'renew': {
        const held = this.#data.get(write.key);
        if (held !== undefined) held.until = Math.max(held.until, this.#clock.now + write.seconds * 1_000);
        return held === undefined ? 0 : 1;
      }
      default:
        return 1;
    }
  }

  #setIfAbsent(key: string, value: string, milliseconds: number): Reply {
    if (this.#get(key) !== null) return null;
    const revived = this.#sabotage === 'revived epoch' && key === EPOCH_KEY ? this.#lastEpoch : null;
    this.#set(key, revived ?? value, milliseconds);
    return 'OK';
  }

  #set(key: string, value: string, milliseconds: number): void {
    this.#data.set(key, { value, until: this.#clock.now + milliseconds });
    if (key === EPOCH_KEY) this.#lastEpoch = value;
  }

  /** The entry as it is, or, under that sabotage, with the fences as they are now. */
  #stamped(value: string): string {
    if (this.#sabotage === 'own fences alone') {
      const { x = [], ...entry }: { f: string[]; x?: string[] } = JSON.parse(value);
      return JSON.stringify({ ...entry, f: [...entry.f.slice(0, -1 - x.length), entry.f.at(-1)] });
    }
    if (this.#sabotage !== 'stamp at store' || !value.startsWith('{')) return value;
    const entry: { f: string[]; d?: { fences?: string[] } } = JSON.parse(value);
    const fences = entry.d?.fences ?? [];
    return JSON.stringify({ ...entry, f: fences.map((fence, place) => this.#get(fence) ?? entry.f[place]) });
  }
}

/** The epoch under which the first key of a read was stored. */
function epochOf(entry: string | null): string | null {
  return (entry === null ? null : readEnvelope(entry))?.fences.at(-1) ?? null;
}

function names(writes: readonly Write[]): string {
  return writes.map(({ op }) => op).join(' ');
}
