/** Half of the random schedules; the other half is in interleavings-2.test.ts. */
import { testHalfOfTheSchedules } from './half-of-schedules.ts';

testHalfOfTheSchedules();
