/**
 * What came of the requests of `fencepost warm`, when to give up early, and how it ended as an exit code. Pure.
 *
 * Kinds of failure: `denied`, the caller may not ask; `away`, the readers or their cache cannot answer now; `request`,
 * this very question is at fault.
 */
import { ExitCode } from '../lib/errors.ts';

/** Where an answer came from, as `x-cache` says it; `other`: it says nothing that we know. */
export type Origin = 'MISS' | 'HIT' | 'STALE' | 'other';

export type Outcome =
  /** `absent`: 404 through the cache, which is an answer too. */
  | { readonly origin: Origin; readonly absent: boolean }
  /** `failure`: a few words that are the same for the same cause, without a value. */
  | { readonly failure: string };

/** So many failures in a row, all alike, end it. */
export const ENOUGH_ALIKE = 10;
/** Failures that are shown with their address. */
const EXAMPLES = 3;
/** Characters of an address that are shown: a row's value may be of any length. */
const EXAMPLE_LENGTH = 200;

export interface Example {
  readonly failure: string;
  /** Its beginning, if it is long. */
  readonly url: string;
}

export class Tally {
  readonly origins: Record<Origin, number> = { MISS: 0, HIT: 0, STALE: 0, other: 0 };
  readonly failures = new Map<string, number>();
  readonly examples: Example[] = [];
  absent = 0;
  /** The latest failures in a row that were alike. */
  #row = { failure: '', count: 0 };

  /** @param url as it may be shown */
  add(outcome: Outcome, url: () => string): void {
    if ('origin' in outcome) {
      this.origins[outcome.origin] += 1;
      if (outcome.absent) this.absent += 1;
      this.#row = { failure: '', count: 0 };
      return;
    }
    const { failure } = outcome;
    this.failures.set(failure, (this.failures.get(failure) ?? 0) + 1);
    if (this.examples.length < EXAMPLES) this.examples.push({ failure, url: shorten(url()) });
    this.#row = { failure, count: failure === this.#row.failure ? this.#row.count + 1 : 1 };
  }

  get answered(): number {
    return Object.values(this.origins).reduce((sum, count) => sum + count, 0);
  }

  get failed(): number {
    return [...this.failures.values()].reduce((sum, count) => sum + count, 0);
  }

  get asked(): number {
    return this.answered + this.failed;
  }

  /**
   * What every further request would end like, or undefined: the last ones all failed alike, and the failure is of the readers,
   * or of the caller and nothing else has happened yet. Of single questions it says nothing: further rows may be good ones.
   */
  get hopeless(): string | undefined {
    const { failure, count } = this.#row;
    if (count < ENOUGH_ALIKE) return undefined;
    if (kindOf(failure) === 'away' || failure === 'HTTP 401') return failure;
    return kindOf(failure) === 'denied' && count === this.asked ? failure : undefined;
  }

  /** Of the whole: by the failure that all have in common, if there is one. */
  get exitCode(): ExitCode {
    if (this.failed === 0) return ExitCode.ok;
    const common = this.hopeless === undefined ? this.failures.keys() : [this.hopeless];
    const kinds = new Set([...common].map(kindOf));
    if (kinds.size > 1 || (this.answered > 0 && this.hopeless === undefined)) return ExitCode.failed;
    return kinds.has('denied') ? ExitCode.denied : kinds.has('away') ? ExitCode.unavailable : ExitCode.failed;
  }
}

function shorten(url: string): string {
  return url.length > EXAMPLE_LENGTH ? `${url.slice(0, EXAMPLE_LENGTH)}…` : url;
}

export function kindOf(failure: string): 'denied' | 'away' | 'request' {
  if (failure === 'HTTP 401' || failure === 'HTTP 403') return 'denied';
  return /^HTTP (?!429|502|503|504)/.test(failure) ? 'request' : 'away';
}
