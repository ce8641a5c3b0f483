/** All conformance checks of the cache module; conformance.test.ts and conformance.deno.ts run them. */
import { calls } from './calls.ts';
import { dependencies } from './dependencies.ts';
import { herds } from './herds.ts';
import { invalidating } from './invalidating.ts';
import { limits } from './limits.ts';
import { localLevel } from './local.ts';
import { mistakes } from './mistakes.ts';
import { reading } from './reading.ts';
import { setting } from './setting.ts';
import { staleness } from './staleness.ts';
import type { Check } from './support.ts';
import { waitLimits } from './wait-limits.ts';
import { waiting } from './waiting.ts';

export const checks: readonly Check[] = [
  ...reading,
  ...limits,
  ...invalidating,
  ...setting,
  ...dependencies,
  ...calls,
  ...localLevel,
  ...herds,
  ...waitLimits,
  ...staleness,
  ...mistakes,
  ...waiting,
];
