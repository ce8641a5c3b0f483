/**
 * The wake flag: set by a notification, cleared before each delivery, awaited while asleep. A notification between `clear`
 * and `wait` is kept: `wait` then returns at once.
 */
export class WakeFlag {
  #set = false;
  #waiting: (() => void) | null = null;

  get isSet(): boolean {
    return this.#set;
  }

  set(): void {
    this.#set = true;
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.();
  }

  clear(): void {
    this.#set = false;
  }

  /** Resolves when the flag is set or after `timeoutMs`, whichever is first. One waiter at a time. */
  wait(timeoutMs: number): Promise<'set' | 'timeout'> {
    if (this.#set) return Promise.resolve('set');
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting = null;
        resolve('timeout');
      }, timeoutMs);
      this.#waiting = () => {
        clearTimeout(timer);
        resolve('set');
      };
    });
  }
}
