/**
 * What the process's exit code says to whoever started it. The numbers are those of BSD's sysexits, which service
 * managers and people already know: 64 and 78 will not get better by restarting, 69 and 75 will.
 */
export const ExitCode = {
  /** Done, or asked to stop and stopped cleanly. */
  ok: 0,
  /** A check failed (`doctor`, `audit`), some requests of `warm`, or files differ (`init`): the command itself worked. */
  failed: 1,
  /** The command line makes no sense. */
  usage: 64,
  /** A service is not reachable, and this command cannot wait for it. */
  unavailable: 69,
  /** A defect of Fencepost itself. */
  internal: 70,
  /** Not confirmed yet, and nothing is lost: rows stay in the outbox for the next worker, or the queue has the target. */
  abandoned: 75,
  /** Credentials or rights are refused. */
  denied: 77,
  /** The environment, or the database that it names, is not set up. */
  configuration: 78,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];
