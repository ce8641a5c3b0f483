/**
 * LISTEN on the channel. pg-listen keeps the connection: it reconnects and listens again by itself.
 *
 * Promises:
 * - `listening` is true only while a LISTEN is committed on a connection not known to be broken. Every change is reported.
 * - A notification with any payload, from any role, only wakes the worker. It can never throw: pg-listen parses payloads
 *   as JSON by default, and one that is not JSON would end the process.
 *
 * pg-listen owns its connection, so the locks are on another one (lock-session.ts). Sleeping needs both alive:
 * docs/protocol.md#wakeup.
 */
import pgListen, { type Subscriber } from 'pg-listen';
import { CHANNEL } from '../db/names.ts';
import { clientOptions } from '../db/pool.ts';
import { backoffMs, endsWithin } from '../lib/waiting.ts';

/** Between two checks of a silent connection. A half-open one is found within this plus ANSWER_WITHIN_MS. */
const CHECK_INTERVAL_MS = 5_000;
const ANSWER_WITHIN_MS = 4_000;
const CLOSE_WITHIN_MS = 1_000;

/** Quick at first: a restarted Postgres is back within a second. */
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 2_000;

export interface ListenerEvents {
  /** A writer's notification has an empty payload. Any other wakes the worker as well. */
  onNotification(payload: string): void;
  /** `listening` has changed. `error` is set when a connection was lost or could not be made. */
  onChange(listening: boolean, error?: unknown): void;
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

  /** Connects, and reconnects until `close`. Never throws; the events tell what happens. */
  start(): void {
    if (!this.#closed) void this.#subscribe();
  }

  /** Replaces a connection that looks alive but receives no notifications. */
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
    if (subscriber !== null) await endsWithin(CLOSE_WITHIN_MS, subscriber.close());
  }

  async #subscribe(): Promise<void> {
    let subscriber: Subscriber;
    const isCurrent = () => this.#subscriber === subscriber;
    subscriber = pgListen.default(clientOptions(this.#url, 'listen', ANSWER_WITHIN_MS), {
      parse: (payload) => payload,
      paranoidChecking: CHECK_INTERVAL_MS,
      retryTimeout: 0,
      retryInterval: (attempt) => {
        // pg-listen's retry loop ignores close(); only throwing here ends it.
        if (!isCurrent()) throw new Error('This subscriber was closed.');
        return backoffMs(attempt, FIRST_RETRY_MS, MAX_RETRY_MS);
      },
    });
    this.#subscriber = subscriber;
    let subscribed = false;
    subscriber.events.on('reconnect', () => {
      if (isCurrent()) this.#lost(new Error('The listening connection broke.'));
    });
    subscriber.events.on('error', (error) => {
      // pg-listen gives up when the connection breaks during its own re-LISTEN.
      if (isCurrent()) this.#replace(subscriber, error);
    });
    subscriber.events.on('connected', () => {
      // Discarded while it reconnected: end the new connection.
      if (!isCurrent()) void endsWithin(CLOSE_WITHIN_MS, subscriber.close());
      else if (subscribed) this.#started();
    });
    subscriber.notifications.on(CHANNEL, (payload: string | undefined) => {
      if (isCurrent()) this.#events.onNotification(payload ?? '');
    });
    try {
      await subscriber.connect();
      await subscriber.listenTo(CHANNEL);
      subscribed = true;
      if (isCurrent()) this.#started();
    } catch (error) {
      if (isCurrent()) this.#replace(subscriber, error);
    }
  }

  #started(): void {
    this.#failures = 0;
    if (this.#listening) return;
    this.#listening = true;
    this.#events.onChange(true);
  }

  #lost(error: unknown): void {
    const was = this.#listening;
    this.#listening = false;
    if (was || this.#failures++ === 0) this.#events.onChange(false, error);
  }

  #replace(subscriber: Subscriber, error: unknown): void {
    this.#discard(subscriber);
    this.#lost(error);
    this.#retry = setTimeout(() => this.start(), backoffMs(this.#failures, FIRST_RETRY_MS, MAX_RETRY_MS));
  }

  #discard(subscriber: Subscriber): void {
    this.#subscriber = null;
    void endsWithin(CLOSE_WITHIN_MS, subscriber.close());
  }
}
