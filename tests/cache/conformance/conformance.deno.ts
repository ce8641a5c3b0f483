/**
 * The conformance checks and the interleavings under Deno, started by conformance.test.ts, which runs the Redis and the
 * gateway that FENCEPOST_CONFORMANCE names.
 */
import * as fc from 'fast-check';
import { runScenario } from '../interleavings.ts';
import { scenario } from '../scenarios.ts';
import { checks } from './checks.ts';
import { type Addresses, Support } from './support.ts';

const addresses: Addresses = JSON.parse(Deno.env.get('FENCEPOST_CONFORMANCE') ?? '{}');

// Connections are kept alive and refreshes go on in the background, as in an edge function.
const background = { sanitizeOps: false, sanitizeResources: false };

for (const { name, run } of checks) {
  Deno.test({ name, ...background, fn: () => run(new Support(addresses)) });
}

Deno.test({
  name: 'no schedule brings a stale value back',
  ...background,
  fn: () =>
    fc.assert(
      fc.asyncProperty(scenario, (chosen) => runScenario(chosen, null)),
      { numRuns: 500 },
    ),
});
