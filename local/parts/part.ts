/**
 * What every piece of the embedded stack is: something with a name that can be stopped, and one kind of error for
 * everything that goes wrong while starting it.
 */

/** A running piece of the embedded stack. */
export interface Part {
  readonly name: string;
  /** Ends the part and removes all it left behind. Calling it again waits for the first call, and does nothing more. */
  stop(): Promise<void>;
}

export type PartErrorCode =
  /** The part ended, or did not answer in time, before it was ready. */
  | 'PART_START_FAILED'
  /** Somebody else listens on the port that was asked for. */
  | 'PORT_TAKEN'
  /** A program that the part needs is neither installed nor installable from here; the message says how to get it. */
  | 'PROGRAM_MISSING'
  /** The Supabase CLI refused the migrations. */
  | 'MIGRATIONS_FAILED';

/** A part that could not be started. The message names the part and the remedy; `code` is stable. */
export class PartError extends Error {
  readonly code: PartErrorCode;

  constructor(code: PartErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'PartError';
    this.code = code;
  }
}

/** Wraps a clean-up so that it runs once, however often and from wherever it is called. */
export function once(action: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => {
    running ??= action();
    return running;
  };
}
