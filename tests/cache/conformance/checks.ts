/** All conformance checks of the cache module; conformance.test.ts and conformance.deno.ts run them. */
import { herds } from './herds.ts';
import { invalidating } from './invalidating.ts';
import { limits } from './limits.ts';
import { mistakes } from './mistakes.ts';
import { reading } from './reading.ts';
import { staleness } from './staleness.ts';
import { patience } from './wait-limits.ts';
import { waiting } from './waiting.ts';
import type { Check } from './workbench.ts';

export const checks: readonly Check[] = [
  ...reading,
  ...limits,
  ...invalidating,
  ...herds,
  ...patience,
  ...staleness,
  ...mistakes,
  ...waiting,
];
