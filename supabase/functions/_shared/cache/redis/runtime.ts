/**
 * What the cache takes from the platform: clocks, random values, background work and the environment. Tests pass a runtime of
 * their own and so decide when time passes. Supported are Deno, Supabase's edge runtime and Node.
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
  readonly EdgeRuntime?: { waitUntil?(work: Promise<unknown>): void };
}

const platform = globalThis as unknown as PlatformGlobals;

/** The platform that this process runs on. */
export const systemRuntime: Runtime = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  randomToken: () => base64url(crypto.getRandomValues(new Uint8Array(16))),
  random: () => Math.random(),
  sleep: (milliseconds, signal, idle = false) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) return resolve();
      const timer = setTimeout(done, milliseconds);
      if (idle) unref(timer);
      function done() {
        clearTimeout(timer);
        signal?.removeEventListener('abort', done);
        resolve();
      }
      signal?.addEventListener('abort', done);
    }),
  background: (work) => {
    // Outside the edge runtime the process outlives the request.
    platform.EdgeRuntime?.waitUntil?.(work);
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
