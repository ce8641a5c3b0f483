/**
 * The workbench's key types. `fencepost init` gives an application starter/key-types.ts instead, to declare its own in.
 * protocol/key-types.ts says what each field means; docs/cache.md walks through adding a type.
 */
import type { KeyTypes } from './cache/protocol/key-types.ts';
import { keyBuilders } from './cache/protocol/keys.ts';

/** Times to live, in seconds. */
export const TTL = {
  SHORT: 60,
  MEDIUM: 300,
  LONG: 3600,
  DAY: 86_400,
  SESSION: 900,
  QUOTA: 300,
  USAGE: 300,
  PREFS: 3600,
  COST: 86_400,
} as const;

export const types = {
  session: { key: 'session:{id}:state', entity: 2, ttl: TTL.SESSION, hitRate: 0.7 },
  prefs: { key: 'user:{user}:prefs', entity: 2, ttl: TTL.PREFS },
  quota: { key: 'quota:{org}:{provider}:{model}', entity: 2, ttl: TTL.QUOTA, hitRate: 0.8 },
  usage: { key: 'usage:{org}:{start:date}:{end:date}', entity: 2, ttl: TTL.USAGE, hitRate: 0.6 },
  cost: { key: 'cost:{provider}:{model}', entity: 3, ttl: TTL.COST, hitRate: 0.95 },
  member: { key: 'member:{org}:{user}', entity: 3, ttl: TTL.QUOTA, degraded: false },
  // The worked example of docs/cache.md.
  workflow: { key: 'workflow:{id}:definition', entity: 2, ttl: TTL.LONG },
} as const satisfies KeyTypes;

/** Builders of keys: keys.quota(org, provider, model), keys.session(id), … */
export const keys = keyBuilders(types);
