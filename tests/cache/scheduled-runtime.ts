/** What the isolates of the interleavings take from their platform: a clock that only the scheduler moves on. */
import { HUNG_AFTER_MS } from '../../supabase/functions/_shared/cache/client/single-flight.ts';
import type { Runtime } from '../../supabase/functions/_shared/cache/redis/runtime.ts';
import type { Clock } from './scheduled-redis.ts';

/** @param forgets half a minute passes between any two looks at the monotonic clock, so that no `get` is remembered */
export function scheduledRuntime(
  clock: Clock,
  step: (label: string) => Promise<void>,
  token: () => string,
  forgets: boolean,
): Runtime {
  let looks = 0;
  return {
    now: () => clock.now,
    monotonic: () => clock.now + (forgets ? 31_000 * looks++ : 0),
    randomToken: token,
    random: () => 0.5,
    sleep: async (milliseconds) => {
      // A load hangs because of time, not of order. If the clock jumped that far, nothing would be fresh any more.
      if (milliseconds > HUNG_AFTER_MS / 2) return new Promise(() => {});
      const until = clock.now + milliseconds;
      await step('a sleep ends');
      clock.now = Math.max(clock.now, until);
    },
    background: () => {},
  };
}
