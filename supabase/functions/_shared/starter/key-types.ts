/** This application's key types: yours to edit. cache/protocol/key-types.ts says what each field means. */
import type { KeyTypes } from '../cache/protocol/key-types.ts';
import { keyBuilders } from '../cache/protocol/keys.ts';

/** Times to live, in seconds. */
export const TTL = { SHORT: 60, MEDIUM: 300, LONG: 3600, DAY: 86_400 } as const;

/** Two examples: declare your own instead. */
export const types = {
  orders: { key: 'orders:{customer}:{page:integer}', entity: 2, ttl: TTL.MEDIUM },
  product: { key: 'product:{id}:details', entity: 2, ttl: TTL.LONG, hitRate: 0.9 },
} as const satisfies KeyTypes;

/** Builders of keys: keys.orders(customer, page), keys.product(id), … */
export const keys = keyBuilders(types);
