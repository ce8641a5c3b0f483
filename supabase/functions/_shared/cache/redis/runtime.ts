/**
 * What the cache takes from the platform: clocks, random values, background work and the environment. Tests pass a runtime of
 * their own and so decide when time passes. Supported are Deno, Node, Bun, browsers and edge runtimes.
 */
import { trimmed } from '../protocol/environment.ts';

export interface Runtime {
  /** Milliseconds since 1970. */
  now(): number;
  /** Milliseconds of a clock that never goes back, for durations. */
  monotonic(): number;
  /** A fence, a lease or an epoch: 128 random bits, as base64url. */
  randomToken(): string;
  /** A number from 0 to below 1, for jitter. */
  random(): number;
  /**
   * Resolves after so many milliseconds, or as soon as the signal aborts.
   * @param idle the timer does not keep the process alive
   */
  sleep(milliseconds: number, signal?: AbortSignal, idle?: boolean): Promise<void>;
  /** Keeps the isolate alive for work after the response was sent. The promise must not reject. */
  background(work: Promise<void>): void;
}

interface PlatformGlobals {
  readonly Deno?: {
    readonly env: { get(name: string): string | undefined };
    unrefTimer?(timer: number): void;
  };
  readonly process?: { readonly env?: Readonly<Record<string, string | undefined>> };
  readonly EdgeRuntime?: { waitUntil?(work: Promise<unknown>): unknown };
}

const platform = globalThis as unknown as PlatformGlobals;

/** Timers of the platform. */
export interface Timers {
  start(run: () => void, milliseconds: number): unknown;
  stop(timer: unknown): void;
}

// As they are when this module is loaded. An application's tests may stop the clock later; Redis and other isolates go on.
const { setTimeout: startTimer, clearTimeout: stopTimer } = globalThis;
const monotonic = performance.now.bind(performance);
export const timers: Timers = {
  start: (run, milliseconds) => startTimer(run, milliseconds),
  stop: (timer) => stopTimer(timer as number),
};

/** The platform that this process runs on. */
export const systemRuntime: Runtime = {
  now: () => Date.now(),
  monotonic,
  randomToken: () => base64url(crypto.getRandomValues(new Uint8Array(16))),
  random: () => Math.random(),
  sleep: (milliseconds, signal, idle = false) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) return resolve();
      const timer = timers.start(done, milliseconds);
      if (idle) unref(timer);
      function done() {
        timers.stop(timer);
        signal?.removeEventListener('abort', done);
        resolve();
      }
      signal?.addEventListener('abort', done);
    }),
  background: (work) => {
    // Outside the edge runtime the process outlives the request. A runtime that refuses is no failure of the read: the work has begun.
    try {
      const kept: unknown = platform.EdgeRuntime?.waitUntil?.(work);
      void Promise.resolve(kept).catch(() => {});
    } catch {
      // As one does whose request has been answered.
    }
  },
};

function unref(timer: unknown): void {
  if (typeof timer === 'number') platform.Deno?.unrefTimer?.(timer);
  else if (typeof timer === 'object' && timer !== null && 'unref' in timer) {
    if (typeof timer.unref === 'function') timer.unref();
  }
}

/** One variable of the environment, or undefined when it is missing, empty or may not be read. */
export function environmentVariable(name: string): string | undefined {
  try {
    return trimmed(platform.Deno?.env.get(name) ?? platform.process?.env?.[name]);
  } catch {
    // Deno without --allow-env for this name: it counts as not set.
    return undefined;
  }
}

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '');
}
