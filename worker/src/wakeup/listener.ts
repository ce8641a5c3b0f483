/**
 * The ear of the doorbell: LISTEN on the channel, kept alive by pg-listen, which reconnects and listens again by itself.
 *
 * Promises: `listening` is true only while a LISTEN is committed on a connection not known to be broken; every change of
 * it is reported; a notification of any content, from any role, is just a ring and can never raise (pg-listen parses
 * payloads as JSON unless told otherwise, and a payload that is not JSON would end the process).
 *
 * pg-listen owns its connection, so the locks S and K live on another session (locks.ts). The doorbell's rule 5 therefore
 * names both: an error of either means awake, and sleeping needs both alive. See the proof in doorbell.ts.
 */
import pgListen, { type Subscriber } from 'pg-listen';
import { CHANNEL } from '../db/names.ts';
import { clientOptions } from '../db/pool.ts';

/** Between two looks at a connection that says nothing; a half-open one is found within this plus the answer's time. */
const CHECK_INTERVAL_MS = 5_000;
const ANSWER_WITHIN_MS = 4_000;

/** Attempts to connect again: quick at first, since a restarted Postgres is back within a second. */
const RETRY_FIRST_MS = 100;
const RETRY_MOST_MS = 2_000;

export interface ListenerEvents {
  /** Someone rang. The payload is empty for a real ring; anything else is treated alike. */
  ring(payload: string): void;
  /** `listening` has changed. `error` is set when a connection was lost or could not be made. */
  change(listening: boolean, error?: unknown): void;
}

export class Listener {
  readonly #url: string;
  readonly #events: ListenerEvents;
  #subscriber: Subscriber | null = null;
  #listening = false;
  #closed = false;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;

  constructor(url: string, events: ListenerEvents) {
    this.#url = url;
    this.#events = events;
  }

  get listening(): boolean {
    return this.#listening;
  }

  /** Begins to connect and keeps at it until `close`; what happens is told through the events. */
  start(): void {
    if (!this.#closed) void this.#subscribe();
  }

  /** Gives up the present connection and listens on a new one: for when rings do not arrive although it looks alive. */
  renew(reason: Error): void {
    if (this.#closed || this.#subscriber === null) return;
    this.#discard(this.#subscriber);
    this.#lost(reason);
    this.start();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#listening = false;
    const subscriber = this.#subscriber;
    this.#subscriber = null;
    if (subscriber !== null) await endQuietly(subscriber);
  }

  async #subscribe(): Promise<void> {
    let subscriber: Subscriber;
    const isCurrent = () => this.#subscriber === subscriber;
    subscriber = pgListen.default(clientOptions(this.#url, 'listen', ANSWER_WITHIN_MS), {
      parse: (payload) => payload,
      paranoidChecking: CHECK_INTERVAL_MS,
      retryTimeout: 0,
      retryInterval: (attempt) => {
        // pg-listen's loop does not look whether it was closed; throwing here is what ends it.
        if (!isCurrent()) throw new Error('This subscriber was closed.');
        return backoff(attempt);
      },
    });
    this.#subscriber = subscriber;
    let subscribed = false;
    subscriber.events.on('reconnect', () => {
      if (isCurrent()) this.#lost(new Error('The listening connection broke.'));
    });
    subscriber.events.on('error', (error) => {
      // Only a connection that broke while it listened again ends here; pg-listen does not try a second time.
      if (isCurrent()) this.#replace(subscriber, error);
    });
    subscriber.events.on('connected', () => {
      // A subscriber that was discarded while it reconnected: end the connection it has just made.
      if (!isCurrent()) void endQuietly(subscriber);
      else if (subscribed) this.#found();
    });
    subscriber.notifications.on(CHANNEL, (payload: string | undefined) => {
      if (isCurrent()) this.#events.ring(payload ?? '');
    });
    try {
      await subscriber.connect();
      await subscriber.listenTo(CHANNEL);
      subscribed = true;
      if (isCurrent()) this.#found();
    } catch (error) {
      if (isCurrent()) this.#replace(subscriber, error);
    }
  }

  #found(): void {
    this.#failures = 0;
    if (this.#listening) return;
    this.#listening = true;
    this.#events.change(true);
  }

  #lost(error: unknown): void {
    const was = this.#listening;
    this.#listening = false;
    if (was || this.#failures++ === 0) this.#events.change(false, error);
  }

  #replace(subscriber: Subscriber, error: unknown): void {
    this.#discard(subscriber);
    this.#lost(error);
    this.#retry = setTimeout(() => this.start(), backoff(this.#failures));
  }

  #discard(subscriber: Subscriber): void {
    this.#subscriber = null;
    void endQuietly(subscriber);
  }
}

function backoff(attempt: number): number {
  return Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(attempt, 10));
}

/** Ends a subscriber without waiting for a server that no longer answers. */
async function endQuietly(subscriber: Subscriber): Promise<void> {
  const timeout = new Promise<void>((resolve) => setTimeout(resolve, 1_000).unref());
  try {
    await Promise.race([subscriber.close(), timeout]);
  } catch {
    // The connection is broken already; there is nothing left to end.
  }
}
