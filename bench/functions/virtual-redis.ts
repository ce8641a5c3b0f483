/**
 * The commands that the cache uses, in memory and on the simulation's clock, so that a working day takes seconds. Nothing
 * checks it against a real Redis; only the simulation uses it.
 */

import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import type { Connection } from '../../supabase/functions/_shared/cache/redis/upstash.ts';
import type { Write } from '../../supabase/functions/_shared/cache/redis/writes.ts';

export class VirtualRedis implements Connection {
  readonly #now: () => number;
  readonly #values = new Map<string, { value: string; expiresAt: number }>();
  /** What the readers' commands would be billed as. */
  billed = 0;

  constructor(now: () => number) {
    this.#now = now;
    for (const key of [EPOCH_KEY, HEARTBEAT_KEY]) this.#set(key, 'epoch-of-the-simulation', null);
  }

  /** The worker's DEL. */
  delete(keys: readonly string[]): number {
    return keys.filter((key) => this.#values.delete(key)).length;
  }

  async getMany(keys: readonly string[]): Promise<(string | null)[]> {
    this.billed += 1;
    return keys.map((key) => this.#get(key));
  }

  async write(writes: readonly Write[]): Promise<(string | number | null)[]> {
    this.billed += writes.length;
    return writes.map((write) => this.#apply(write));
  }

  async writeThenRead(writes: readonly Write[], keys: readonly string[]) {
    return { replies: await this.write(writes), values: await this.getMany(keys) };
  }

  async scan(): Promise<{ cursor: string; keys: string[] }> {
    throw new Error('The simulation scans nothing.');
  }

  async health() {
    const [heartbeat, epoch] = [this.#get(HEARTBEAT_KEY), this.#get(EPOCH_KEY)];
    return { keyCount: this.#values.size, heartbeat, epoch };
  }

  #get(key: string): string | null {
    const found = this.#values.get(key);
    if (found === undefined) return null;
    if (found.expiresAt > this.#now()) return found.value;
    this.#values.delete(key);
    return null;
  }

  #set(key: string, value: string, milliseconds: number | null): string {
    const expiresAt = milliseconds === null ? Number.POSITIVE_INFINITY : this.#now() + milliseconds;
    this.#values.set(key, { value, expiresAt });
    return 'OK';
  }

  #apply(write: Write): string | number | null {
    switch (write.op) {
      case 'create': {
        const found = this.#get(write.key);
        if (found === null)
          this.#set(write.key, write.value, write.seconds === null ? null : write.seconds * 1_000);
        return found;
      }
      case 'create-only':
        if (this.#get(write.key) !== null) return null;
        return this.#set(write.key, write.value, write.seconds === null ? null : write.seconds * 1_000);
      case 'get':
        return this.#get(write.key);
      case 'claim':
        return this.#get(write.key) === null ? this.#set(write.key, write.value, write.milliseconds) : null;
      case 'put':
        return this.#set(write.key, write.value, write.milliseconds);
      case 'renew':
      case 'expire': {
        const found = this.#values.get(write.key);
        if (found === undefined) return 0;
        const expiresAt = this.#now() + write.seconds * 1_000;
        if (write.op === 'expire' || expiresAt > found.expiresAt) found.expiresAt = expiresAt;
        return 1;
      }
      case 'delete':
        return this.delete(write.keys);
      case 'record':
        return 1;
    }
  }
}
