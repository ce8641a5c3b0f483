/** What Upstash bills, by its price list of November 2026. Plans with a fixed price bill differently. */

const DOLLARS_A_COMMAND = 0.2 / 100_000;

/** The free plan bills nothing up to here, and answers nothing above. */
export const FREE_COMMANDS_A_MONTH = 500_000;

/** Upstash's month, for projections: 30 days. */
export const SECONDS_A_MONTH = 30 * 86_400;

/** What these commands cost when each is billed. */
export function dollars(commands: number): number {
  return commands * DOLLARS_A_COMMAND;
}
