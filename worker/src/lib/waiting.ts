/**
 * Waiting: until a deadline, until a signal, longer after each failure, or for one's turn. The worker waits for no other process
 * without a deadline.
 */

export class DeadlineError extends Error {
  constructor(ms: number) {
    super(`no answer within ${ms / 1_000} s`);
    this.name = 'DeadlineError';
  }
}

/**
 * Waits for work. Work that is given up is not ended; its later result or failure is dropped.
 *
 * @param ms milliseconds to wait at most; null: as long as it takes
 * @param signal gives up earlier
 * @throws DeadlineError after that time; the signal's reason when it aborts
 */
export function answerWithin<T>(ms: number | null, work: Promise<T>, signal?: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = () => end(() => reject(signal?.reason));
    const timer = ms === null ? undefined : setTimeout(() => end(() => reject(new DeadlineError(ms))), ms);
    const end = (how: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', giveUp);
      how();
    };
    if (signal?.aborted === true) giveUp();
    else signal?.addEventListener('abort', giveUp);
    // Also after giving up, so that a later failure does not count as unhandled.
    work.then(
      (answer) => end(() => resolve(answer)),
      (error: unknown) => end(() => reject(error)),
    );
  });
}

/** @returns whether the work ended in time, well or badly */
export async function endsWithin(ms: number, work: Promise<unknown>): Promise<boolean> {
  try {
    await answerWithin(ms, work);
    return true;
  } catch (error) {
    return !(error instanceof DeadlineError);
  }
}

/** Milliseconds before the next attempt: doubled after each failure. @param failures before this one, in a row */
export function backoffMs(failures: number, firstMs: number, maxMs: number): number {
  return Math.min(maxMs, firstMs * 2 ** Math.min(failures, 30));
}

/** Runs asynchronous work one piece after the other. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs the work when everything that was given before has ended, well or badly. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Resolves when everything that was given has ended. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
