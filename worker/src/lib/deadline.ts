/** An end to waiting: nothing that another process has to answer is waited for without one. */

export class DeadlineError extends Error {
  constructor(ms: number) {
    super(`no answer within ${ms / 1_000} s`);
    this.name = 'DeadlineError';
  }
}

/**
 * @param ms milliseconds that the work may take; it is not ended, only waited for no longer
 * @param signal ends the waiting earlier, with its reason
 * @throws DeadlineError after that time
 */
export function answerWithin<T>(ms: number, work: Promise<T>, signal?: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = () => end(() => reject(signal?.reason));
    const timer = setTimeout(() => end(() => reject(new DeadlineError(ms))), ms);
    const end = (how: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', giveUp);
      how();
    };
    if (signal?.aborted === true) return giveUp();
    signal?.addEventListener('abort', giveUp);
    // What comes of it later is nobody's any more.
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
