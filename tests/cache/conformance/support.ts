/**
 * What every conformance check works with: caches under a prefix of its own, the real Redis behind the gateway, and the gateway's
 * count of commands. It runs in Node and in Deno, so it uses nothing that only one of them has.
 */
import assert from 'node:assert/strict';
import { EPOCH_KEY } from '../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { leaseKey } from '../../../supabase/functions/_shared/cache/protocol/key-state.ts';
import { KeyCatalogue } from '../../../supabase/functions/_shared/cache/protocol/key-types.ts';
import { systemRuntime } from '../../../supabase/functions/_shared/cache/redis/runtime.ts';
import { type Connection, Upstash } from '../../../supabase/functions/_shared/cache/redis/upstash.ts';
import { type Cache, type CacheOptions, createCache } from '../../../supabase/functions/_shared/cache.ts';
import { types } from '../../../supabase/functions/_shared/key-types.ts';

/** Where the real parts are. */
export interface Addresses {
  readonly url: string;
  readonly token: string;
  /** Answers `{ commands, requests }`: what the gateway has billed and served so far. */
  readonly countsUrl: string;
}

/** A named check; it throws when the module does not conform. */
export interface Check {
  readonly name: string;
  readonly run: (support: Support) => Promise<void>;
}

export interface Counted<T> {
  readonly commands: number;
  readonly requests: number;
  readonly result: T;
}

let prefixes = 0;
const catalogue = new KeyCatalogue(types);

export class Support {
  readonly #addresses: Addresses;
  readonly prefix: string;
  readonly #logged: string[] = [];
  /** How far the caches' clock is ahead of the real one, in milliseconds; so that no check has to wait for time to pass. */
  ahead = 0;
  /** The same for the clock that measures how long something takes. */
  lasting = 0;

  constructor(addresses: Addresses) {
    this.#addresses = addresses;
    this.prefix = `check-${prefixes++}-${systemRuntime.randomToken()}:`;
  }

  /** What the caches of this check have logged. */
  get logged(): readonly string[] {
    return this.#logged;
  }

  /** A cache like that of one isolate. */
  isolate(options: CacheOptions = {}): Cache {
    return createCache({
      url: this.#addresses.url,
      token: this.#addresses.token,
      prefix: this.prefix,
      // Checks are about answers; a machine that is busy with other tests must not turn them into misses.
      timeout: 5_000,
      runtime: {
        ...systemRuntime,
        now: () => Date.now() + this.ahead,
        monotonic: () => performance.now() + this.lasting,
      },
      log: (line) => this.#logged.push(line),
      ...options,
    });
  }

  /** The connection of an isolate, for checks that have something happen between two of its requests. */
  connection(): Connection {
    const { url, token } = this.#addresses;
    const redis = new Upstash({ url, token, prefix: this.prefix, timeout: 5_000 });
    // Own functions, so that a check can spread them and replace one.
    return {
      getMany: (keys) => redis.getMany(keys),
      write: (writes) => redis.write(writes),
      writeThenRead: (writes, keys) => redis.writeThenRead(writes, keys),
      scan: (cursor, glob, count) => redis.scan(cursor, glob, count),
      health: () => redis.health(),
    };
  }

  /** An isolate in a database with a living worker. */
  async withWorker(options: CacheOptions = {}): Promise<Cache> {
    await this.heartbeat('epoch-1');
    return this.isolate(options);
  }

  /** What the worker writes when it starts an epoch. */
  async heartbeat(epoch: string): Promise<void> {
    await this.redis('SET', this.key('fencepost:epoch'), epoch);
    await this.redis('SET', this.key('fencepost:heartbeat'), epoch, 'EX', 90);
  }

  /** The physical name of a key. */
  key(logical: string): string {
    return this.prefix + logical;
  }

  /** The physical name of the lease that a reader asks for who finds a key as it is now. All of its fences must stand. */
  async lease(key: string): Promise<string> {
    const plan = catalogue.planFor(key);
    const names = [key, ...plan.fences, EPOCH_KEY].map((name) => this.key(name));
    const [entry = null, ...fences] = (await this.redis('MGET', ...names)) as (string | null)[];
    assert.ok(!fences.includes(null), `all fences of ${key} stand`);
    return this.key(leaseKey(plan, fences as string[], entry));
  }

  /** One Redis command, past the cache. */
  async redis(...command: (string | number)[]): Promise<unknown> {
    const response = await fetch(this.#addresses.url, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.#addresses.token}` },
      body: JSON.stringify(command),
    });
    const answer = (await response.json()) as { result?: unknown; error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.result;
  }

  /** What something costs at the gateway. */
  async counted<T>(work: () => Promise<T>): Promise<Counted<T>> {
    const before = await this.#counts();
    const result = await work();
    const after = await this.#counts();
    return { result, commands: after.commands - before.commands, requests: after.requests - before.requests };
  }

  async #counts(): Promise<{ commands: number; requests: number }> {
    return (await (await fetch(this.#addresses.countsUrl)).json()) as { commands: number; requests: number };
  }
}

/** A promise and the means to settle it: how checks decide when a load ends. */
export function gate<T = void>(): {
  opened: Promise<T>;
  open: (value: T) => void;
  fail: (error: unknown) => void;
} {
  let open: (value: T) => void = () => {};
  let fail: (error: unknown) => void = () => {};
  const opened = new Promise<T>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { opened, open, fail };
}

/** Asks again until the answer is true; for what happens in the background. */
export async function eventually(look: () => Promise<boolean>, what: string): Promise<void> {
  const giveUpAt = Date.now() + 60_000;
  while (!(await look())) {
    if (Date.now() > giveUpAt) throw new Error(`It did not happen within a minute that ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export const QUOTA = 'quota:org-1:openai:gpt-5';
