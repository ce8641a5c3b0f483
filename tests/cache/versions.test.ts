/** Readers of the former version and of this one side by side, as during a deployment: what each stores, the other judges rightly. */
import { expect, it } from 'vitest';
import { deletionsFor } from '../../supabase/functions/_shared/cache/protocol/fences.ts';
import { systemRuntime } from '../../supabase/functions/_shared/cache/redis/runtime.ts';
import { TOKEN, useUpstash } from '../support/upstash.ts';
import { QUOTA, Support } from './conformance/support.ts';
import { FormerClient } from './former-client.ts';

const OWN = 'otp:login:alice';

const upstash = useUpstash();

async function bothVersions() {
  const support = new Support({ url: upstash.gateway.url, token: TOKEN, countsUrl: '' });
  const cache = await support.withWorker();
  const serializing = support.isolate({ serializer: JSON });
  const former = new FormerClient(support.connection(), Date.now, systemRuntime.randomToken);
  // Workers of both versions delete the same names.
  const invalidate = (target: string) =>
    support.redis('DEL', ...deletionsFor(target).keys.map((name) => support.key(name)));
  return { cache, serializing, former, invalidate };
}

it.each([QUOTA, 'cost:openai:gpt-5', 'session:s1:state', 'own:a', 'solo'])(
  '%s: each is a hit for the other',
  async (key) => {
    const { cache, former, invalidate } = await bothVersions();
    await former.getOrSet(key, async () => 'former');
    expect(await cache.getOrSet(key, () => 'unused')).toBe('former');
    await invalidate(key);
    expect(await cache.getOrSet(key, () => 'new')).toBe('new');
    expect(await former.getOrSet(key, async () => 'unused')).toBe('new');
    await invalidate(key);
    expect(await former.getOrSet(key, async () => 'newer')).toBe('newer');
  },
);

it('a key of no type with three segments, and an answer with dependencies: each is a miss for the other, never wrong', async () => {
  const { cache, former, invalidate } = await bothVersions();
  const options = { dependsOn: ['user:7:*'] };
  await cache.getOrSet(OWN, () => 1);
  expect(await former.getOrSet(OWN, async () => 2)).toBe(2);
  expect(await cache.getOrSet(OWN, () => 3)).toBe(3);
  await cache.getOrSet('report:1', () => 1, 60, options);
  expect(await former.getOrSet('report:1', async () => 2)).toBe(2);
  expect(await cache.getOrSet('report:1', () => 3, 60, options)).toBe(3);
  for (const target of [OWN, 'otp:login:*', 'otp:*']) {
    await cache.getOrSet(OWN, () => 'new');
    await invalidate(target);
    expect(await cache.getOrSet(OWN, () => 'newer')).toBe('newer');
    await former.getOrSet(OWN, async () => 'former');
    await invalidate(target);
    expect(await former.getOrSet(OWN, async () => 'former again')).toBe('former again');
    await cache.del(OWN);
  }
});

it('what a serializer wrote is a miss for the former, and what the former wrote is a hit', async () => {
  const { cache, former, serializing } = await bothVersions();
  await serializing.getOrSet(QUOTA, () => ({ of: 1 }));
  expect(await cache.lookup(QUOTA)).toEqual({ hit: false });
  expect(await former.getOrSet(QUOTA, async () => 'former')).toBe('former');
  expect(await serializing.getOrSet(QUOTA, () => 'unused')).toBe('former');
});

it.each([QUOTA, 'own:a'])('%s: a load of either that was invalidated is unreadable for both', async (key) => {
  const { cache, former, invalidate } = await bothVersions();
  await former.getOrSet(key, async () => {
    await invalidate(key);
    return 'old';
  });
  expect(await cache.getOrSet(key, () => 'new')).toBe('new');
  await invalidate(key);
  await cache.getOrSet(key, async () => {
    await invalidate(key);
    return 'old';
  });
  expect(await former.getOrSet(key, async () => 'newer')).toBe('newer');
});
