/** What Upstash bills, as its price list says in November 2026. A plan with a fixed price bills otherwise. */

const DOLLARS_A_COMMAND = 0.2 / 100_000;

/** Below so many commands a month nothing is billed on the free plan, and above it nothing is answered. */
export const FREE_COMMANDS_A_MONTH = 500_000;

/** Upstash's month, for projections: 30 days. */
export const SECONDS_A_MONTH = 30 * 86_400;

/** What so many commands cost when each is paid. */
export function dollars(commands: number): number {
  return commands * DOLLARS_A_COMMAND;
}
