/** What came of the requests of `fencepost warm`, as `--json` prints it: when to stop, the exit code and what to do. Pure. */
import { ExitCode } from '../lib/errors.ts';

/** `absent`: a 404 through the cache, an answer too. A failure has the same words for the same cause. */
export type Outcome =
  | { readonly origin: 'MISS' | 'HIT' | 'STALE' | 'other'; readonly absent: boolean }
  | { readonly failure: string };

/** So many equal failures in a row end it. */
export const STOP_AFTER = 10;
const EXAMPLES = 3;
/** Characters of an address that are shown: a row's value may be of any length. */
const EXAMPLE_LENGTH = 200;

export class Results {
  /** The template as it may be shown. */
  url = '';
  addresses = 0;
  asked = 0;
  answered = 0;
  readonly xCache = { MISS: 0, HIT: 0, STALE: 0, other: 0 };
  absent = 0;
  readonly failed: Record<string, number> = {};
  readonly examples: { readonly failure: string; readonly url: string }[] = [];
  /** Rows that make no address. */
  skipped = 0;
  readonly notes: string[] = [];
  durationMs = 0;
  #last = { failure: '', inARow: 0 };

  /** @param url as it may be shown */
  add(outcome: Outcome, url: string): void {
    this.asked++;
    const failure = 'failure' in outcome ? outcome.failure : '';
    this.#last = { failure, inARow: failure === this.#last.failure ? this.#last.inARow + 1 : 1 };
    if ('origin' in outcome) {
      this.answered++;
      this.xCache[outcome.origin]++;
      this.absent += Number(outcome.absent);
    } else {
      this.failed[failure] = (this.failed[failure] ?? 0) + 1;
      const shown = url.length > EXAMPLE_LENGTH ? `${url.slice(0, EXAMPLE_LENGTH)}…` : url;
      if (this.examples.length < EXAMPLES) this.examples.push({ failure, url: shown });
    }
  }

  /** The failure that every further request would end with. A refused row says nothing of others, nor a 403 once one was answered. */
  get stoppedBy(): string | undefined {
    const { failure, inARow } = this.#last;
    const isOfAll = failure !== '' && kindOf(failure) !== 'request' && inARow >= STOP_AFTER;
    return isOfAll && (failure !== 'HTTP 403' || inARow === this.asked) ? failure : undefined;
  }

  get exitCode(): ExitCode {
    if (this.asked === this.answered) return ExitCode.ok;
    const [kind, other] = new Set((this.stoppedBy ? [this.stoppedBy] : Object.keys(this.failed)).map(kindOf));
    if (other !== undefined || (this.answered > 0 && !this.stoppedBy)) return ExitCode.failed;
    return kind === 'denied' ? ExitCode.denied : kind === 'away' ? ExitCode.unavailable : ExitCode.failed;
  }

  /** What the failures have in common, and the remedy. */
  advice(origin: string, hasToken: boolean, timeoutSeconds: number): string {
    const failures = Object.keys(this.failed);
    const common = this.stoppedBy ?? (this.answered === 0 && failures.length === 1 ? failures[0] : undefined);
    if (common === undefined) {
      // An answer without x-cache may not be cached.
      const others =
        this.answered > 0 && this.xCache.other === 0 ? 'The answers to the others are cached; see' : 'See';
      const these = failures.every((failure) => kindOf(failure) === 'request') ? 'these rows' : 'these';
      return `${this.asked - this.answered} of ${this.asked} requests failed. ${others} to ${these} and run it again.`;
    }
    const what = this.stoppedBy
      ? `Stopped after ${this.asked} requests, the last ${STOP_AFTER} of which failed alike`
      : 'No request was answered';
    const [, remedy] = REMEDIES.find(([pattern]) => new RegExp(`^(?:${pattern})$`).test(common)) ?? ['', ''];
    const who = hasToken
      ? 'refuse the caller of FENCEPOST_WARM_TOKEN: set it'
      : 'ask who calls: set FENCEPOST_WARM_TOKEN';
    return `${what} (${common}). ${remedy.replace('$origin', origin).replace('$timeout', `${timeoutSeconds} s`).replace('$who', who)}`;
  }
}

/** `denied`: the caller may not ask. `away`: the readers or their cache cannot answer now. `request`: this one is at fault. */
export function kindOf(failure: string): 'denied' | 'away' | 'request' {
  if (/^HTTP 40[13]$/.test(failure)) return 'denied';
  return /^HTTP (?!429|50[234])/.test(failure) ? 'request' : 'away';
}

/** By what a failure matches first; the codes are the system's, OpenSSL's and Node's. */
const REMEDIES = Object.entries({
  'HTTP 40[13]': 'The functions $who to a secret key of the project.',
  'HTTP 404': 'Nothing is served at this path: correct it, or deploy the function.',
  'HTTP 429': 'The functions are throttled: lower --concurrency, or try again later.',
  'HTTP 50[234]': 'The functions are in trouble: health-check and their log say why.',
  'HTTP .*':
    'See what curl is answered: does the address name each parameter, do the rows fill it as expected?',
  'x-cache: BYPASS': 'The functions go without their cache: health-check says why.',
  timeout: "There was no answer within $timeout: raise --timeout-seconds, or see the functions' log.",
  'ECONNREFUSED|ENOTFOUND|EAI_\\w+|EHOST\\w+|ENET\\w+|EADDRNOTAVAIL|ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT':
    'Nobody answers at $origin: start it, or correct the address.',
  'ERR_(SSL|TLS)_\\w+|EPROTO|INVALID_(CA|PURPOSE)|HOSTNAME_MISMATCH|\\w*(CERT|CRL_|LEAF_SIGNATURE)\\w*':
    'Somebody answers at $origin, but TLS with it fails: correct its certificate, or http and https.',
  'ECONNRESET|EPIPE|UND_ERR_\\w+|HPE_\\w+|Z_\\w+|ERR_\\w+':
    "Somebody answers at $origin, but what comes is broken: see the functions' log, and what is in between.",
  '.*': 'The request to $origin failed by itself: see what curl says of it.',
});
