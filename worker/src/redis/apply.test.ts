import { describe, expect, it } from 'vitest';
import { apply, PROBE_KEY } from './apply.ts';
import { UpstashFailure } from './errors.ts';
import { TokenBucket } from './token-bucket.ts';
import type { CacheServer } from './upstash.ts';

/** A Redis that refuses some keys, as an ACL does, and counts its requests. */
function refusing(bad: (key: string) => boolean): {
  cache: CacheServer;
  deleted: Set<string>;
  requests: () => number;
} {
  const deleted = new Set<string>();
  let requests = 0;
  const cache = {
    del: async (keys: readonly string[]) => {
      requests++;
      if (keys.some(bad)) throw new UpstashFailure('UPSTASH_REFUSED', 'Refused.', 'bisect');
      for (const key of keys) deleted.add(key);
      return keys.length;
    },
  } as unknown as CacheServer;
  return { cache, deleted, requests: () => requests };
}

const parts = (cache: CacheServer, tokens = new TokenBucket()) => ({
  cache,
  tokens,
  startEpoch: async () => undefined,
});

describe('apply', () => {
  it('deletes entry and fences of all targets in one request, each key once', async () => {
    const redis = refusing(() => false);
    const result = await apply(parts(redis.cache), ['cost:openai:gpt', 'cost:openai:gpt', 'quota:org-1:*']);
    expect(redis.requests()).toBe(1);
    expect(result.keys).toBe(redis.deleted.size);
    expect(redis.deleted).toContain('cost:openai:gpt');
    expect(redis.deleted).toContain('fence:cost:openai:gpt');
    expect(redis.deleted).toContain('fence:quota:org-1');
  });

  it('finds the few targets that Redis refuses and confirms all others', async () => {
    const targets = Array.from({ length: 1_000 }, (_, index) => `session:s${index}:state`);
    const bad = new Set(['session:s17:state', 'session:s998:state']);
    const redis = refusing((key) => bad.has(key));
    const result = await apply(parts(redis.cache), targets);
    expect([...result.refused.keys()].sort()).toEqual(['session:s17:state', 'session:s998:state']);
    for (const target of targets) {
      if (!result.refused.has(target))
        expect(redis.deleted).toContain(`fence:session:${target.split(':')[1]}`);
    }
    // Bisection, not one by one.
    expect(redis.requests()).toBeLessThan(100);
  });

  it('treats a server that refuses even the probe as away, whatever its words', async () => {
    const redis = refusing(() => true);
    await expect(apply(parts(redis.cache), ['session:s1:state'])).rejects.toMatchObject({ course: 'wait' });
    expect(redis.requests()).toBe(2);
  });

  it('tries a single target once more after the server has deleted the probe', async () => {
    let refusals = 1;
    const redis = refusing((key) => key.endsWith('s1:state') && refusals-- > 0);
    expect((await apply(parts(redis.cache), ['session:s1:state'])).refused.size).toBe(0);
    expect(redis.deleted).toContain('fence:session:s1');
  });

  it('rejects as a whole while Redis is away', async () => {
    const away = {
      del: async () => {
        throw new UpstashFailure('UPSTASH_THROTTLED', 'Later.', 'wait');
      },
    } as unknown as CacheServer;
    await expect(apply(parts(away), ['a:b', 'c:d'])).rejects.toMatchObject({ code: 'UPSTASH_THROTTLED' });
  });

  it('does not try thousands one by one when Redis refuses them all', async () => {
    const redis = refusing(() => true);
    const targets = Array.from({ length: 5_000 }, (_, index) => `session:s${index}:state`);
    await expect(apply(parts(redis.cache), targets)).rejects.toMatchObject({ course: 'wait' });
    expect(redis.requests()).toBeLessThan(300);
  });

  it('confirms the others when more are refused than there are tokens, and leaves the rest undecided', async () => {
    const good = Array.from({ length: 1_000 }, (_, index) => `quota:org-${index}:*`);
    const bad = Array.from({ length: 1_000 }, (_, index) => `cost:openai:m${index}`);
    const redis = refusing((key) => key.includes('cost:'));
    // As they come from the outbox: one among the other.
    const mixed = good.flatMap((target, index) => [target, bad[index] ?? '']);
    const clock = { ms: 0 };
    const tokens = new TokenBucket(100, 10, () => clock.ms);
    const result = await apply(parts(redis.cache, tokens), mixed);
    expect(redis.requests()).toBeLessThanOrEqual(103);
    const left = new Set([...result.refused.keys(), ...result.undecided]);
    // The larger groups come first; a few neighbours of the refused targets may have to wait.
    expect(good.filter((target) => left.has(target)).length).toBeLessThan(40);
    for (const target of good.filter((name) => !left.has(name)))
      expect(redis.deleted).toContain(`fence:${target.slice(0, -2)}`);
    // No token is left: the next batch takes one request and the probe, and bisects nothing.
    const before = redis.requests();
    const next = await apply(parts(redis.cache, tokens), mixed);
    expect(redis.requests() - before).toBe(2);
    expect(next.undecided.length).toBe(mixed.length);
    // A second later ten more.
    clock.ms += 1_000;
    const later = redis.requests();
    await apply(parts(redis.cache, tokens), mixed);
    expect(redis.requests() - later).toBe(12);
  });

  it('refuses nothing when the server refuses the probe after the last half', async () => {
    let probes = 0;
    const redis = refusing((key) => (key === PROBE_KEY ? ++probes > 1 : key.endsWith('s1:state')));
    await expect(apply(parts(redis.cache), ['session:s1:state', 'session:s2:state'])).rejects.toMatchObject({
      course: 'wait',
    });
  });

  it('answers * with a new epoch and nothing else', async () => {
    const redis = refusing(() => false);
    let epochs = 0;
    await apply({ ...parts(redis.cache), startEpoch: async () => void epochs++ }, [
      'quota:a:*',
      '*',
      'quota:*:x',
    ]);
    expect(epochs).toBe(1);
    expect(redis.requests()).toBe(0);
  });

  it('leaves patterns without a fence to the queue', async () => {
    const redis = refusing(() => false);
    expect((await apply(parts(redis.cache), ['quota:*:openai:*', 'quota:a:*'])).sweeps).toEqual([
      'quota:*:openai:*',
    ]);
  });
});
