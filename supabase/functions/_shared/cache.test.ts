import { describe, expect, it } from 'vitest';
import { createCache, keys } from './cache.ts';

describe("the workbench's face", () => {
  it('builds the keys that the watches of the workbench name', () => {
    expect(keys.session('s1')).toBe('session:s1:state');
    expect(keys.prefs('u1')).toBe('user:u1:prefs');
    expect(keys.quota('org-1', 'openai', 'gpt:5')).toBe('quota:org-1:openai:gpt%3A5');
    expect(keys.usage('org-1', '2026-11-01', '2026-11-30')).toBe('usage:org-1:2026-11-01:2026-11-30');
    expect(keys.cost('openai', '*')).toBe('cost:openai:%2A');
    expect(keys.member('org-1', 'u1')).toBe('member:org-1:u1');
    expect(keys.workflow('w1')).toBe('workflow:w1:definition');
  });

  it('takes other types as an argument', async () => {
    const types = { order: { key: 'order:{orderId}', entity: 2, ttl: 60, hitRate: 0.5 } };
    const cache = createCache({ types, connection: null, log: () => {} });
    expect(await cache.getOrSet('order:7', () => 'loaded')).toBe('loaded');
    expect(cache.stats().types).toMatchObject({ order: { loads: 1, hitRateTarget: 0.5 } });
    expect(() => createCache({ types: { order: { key: '{id}', entity: 2, ttl: 60 } } })).toThrow(
      expect.objectContaining({ code: 'INVALID_CONFIGURATION' }),
    );
  });
});
