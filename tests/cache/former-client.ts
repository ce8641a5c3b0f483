/**
 * The client before a miss took three commands, as far as another version meets it in Redis: fences are bare random values made with SET
 * NX, one lease a key, the entity of a key of no type is its first two segments, an entry's dependencies mean nothing to it, and it knows
 * the format 1 alone. It waits for nobody, since leases make nothing right or wrong.
 */
import {
  readEnvelope,
  type VersionStamp,
  writeEnvelope,
} from '../../supabase/functions/_shared/cache/protocol/entry.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { fencesOf } from '../../supabase/functions/_shared/cache/protocol/fences.ts';
import type { Connection } from '../../supabase/functions/_shared/cache/redis/upstash.ts';
import type { Write } from '../../supabase/functions/_shared/cache/redis/writes.ts';

const DEGRADED_MS = 30_000;

export class FormerClient {
  readonly #connection: Connection;
  readonly #now: () => number;
  readonly #token: () => string;

  constructor(connection: Connection, now: () => number, token: () => string) {
    this.#connection = connection;
    this.#now = now;
    this.#token = token;
  }

  async getOrSet<T>(key: string, load: () => Promise<T>, seconds = 60): Promise<T> {
    const depth = key.startsWith('cost:') || key.startsWith('member:') ? 3 : 2;
    const guards = [...fencesOf(key, depth), EPOCH_KEY];
    const names = [key, ...guards, HEARTBEAT_KEY];
    let stamp: VersionStamp | null = null;
    let renewed: string[] = [];
    try {
      const first = await this.#connection.getMany(names);
      const found = this.#judge(first);
      if (found !== null) return found.value as T;
      const missing = guards.filter((_, index) => first[index + 1] === null);
      renewed = guards.filter((name) => !missing.includes(name) && name !== EPOCH_KEY);
      const writes: Write[] = missing.map((name) => {
        return {
          op: 'create-only',
          key: name,
          value: this.#token(),
          seconds: name === EPOCH_KEY ? null : seconds + 1,
        };
      });
      writes.push({ op: 'claim', key: `fencepost:lease:${key}`, value: this.#token(), milliseconds: 1_000 });
      const { values } = await this.#connection.writeThenRead(writes, names);
      const stored = this.#judge(values);
      if (stored !== null) return stored.value as T;
      const fences = values.slice(1, -1);
      if (fences.every((fence) => fence !== null)) {
        const epoch = fences.at(-1) === values.at(-1) ? (fences.at(-1) ?? null) : null;
        stamp = { fences, epoch, loadedAt: this.#now() };
      }
    } catch {
      // Redis is away.
    }
    const value = await load();
    if (stamp !== null) {
      const entry: Write = {
        op: 'put',
        key,
        value: writeEnvelope(stamp, value, null),
        milliseconds: seconds * 1_000,
      };
      const renewals = renewed.map((name): Write => ({ op: 'renew', key: name, seconds: seconds + 1 }));
      const release: Write = { op: 'delete', keys: [`fencepost:lease:${key}`] };
      await this.#connection.write([entry, ...renewals, release]).catch(() => null);
    }
    return value;
  }

  #judge([entry = null, ...rest]: readonly (string | null)[]): { value: unknown } | null {
    const heartbeat = rest.at(-1) ?? null;
    const fences = rest.slice(0, -1);
    const envelope = entry?.startsWith('{"v":1,') ? readEnvelope(entry) : null;
    if (envelope === null || envelope.fences.length !== fences.length) return null;
    if (fences.some((fence, index) => fence === null || fence !== envelope.fences[index])) return null;
    const epoch = fences.at(-1) ?? null;
    if (epoch === heartbeat) return envelope.epoch === epoch ? envelope : null;
    const age = this.#now() - envelope.loadedAt;
    return age >= 0 && age <= DEGRADED_MS ? envelope : null;
  }
}
