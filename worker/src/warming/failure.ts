/** What `fencepost warm` says when requests failed: one sentence about what they have in common, and its remedy. Pure. */
import { WorkerError } from '../lib/errors.ts';
import { ENOUGH_ALIKE, kindOf, type Tally } from './results.ts';

/**
 * @param tally with a failure in it
 * @param origin of the addresses
 * @param hasToken whether a token was sent
 */
export function failureOf(
  tally: Tally,
  origin: string,
  hasToken: boolean,
  timeoutSeconds: number,
): WorkerError {
  return new WorkerError('WARMING_FAILED', sentence(tally, origin, hasToken, timeoutSeconds), {
    exitCode: tally.exitCode,
  });
}

function sentence(tally: Tally, origin: string, hasToken: boolean, timeoutSeconds: number): string {
  const { hopeless, asked, answered, failed, failures, origins } = tally;
  if (hopeless !== undefined) {
    const remedy = remedyFor(hopeless, origin, hasToken, timeoutSeconds);
    return `Stopped after ${asked} requests, the last ${ENOUGH_ALIKE} of which failed alike (${hopeless}). ${remedy}`;
  }
  const [only] = failures.keys();
  if (answered === 0 && failures.size === 1 && only !== undefined) {
    return `No request was answered (${only}). ${remedyFor(only, origin, hasToken, timeoutSeconds)}`;
  }
  // Nothing is known of an answer without x-cache.
  const others = answered > 0 && origins.other === 0 ? 'The answers to the others are cached; see' : 'See';
  const these = [...failures.keys()].every((failure) => kindOf(failure) === 'request')
    ? 'these rows'
    : 'these';
  return `${failed} of ${asked} requests failed. ${others} to ${these} and run it again.`;
}

/** That no connection came about: no such name, no way there, nobody listens. */
const NOBODY =
  /^(?:ECONNREFUSED|ENOTFOUND|EAI_\w+|EHOST\w+|ENET\w+|EADDRNOTAVAIL|ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT)$/;
/** OpenSSL's and Node's own codes, those of a certificate among them. */
const INSECURE =
  /^(?:ERR_(?:SSL|TLS)_\w+|EPROTO|INVALID_(?:CA|PURPOSE)|HOSTNAME_MISMATCH|\w*(?:CERT|CRL_|LEAF_SIGNATURE)\w*)$/;
/** A connection that ended too early, or an answer that is no HTTP, or not in the encoding that it says. */
const BROKEN = /^(?:ECONNRESET|EPIPE|UND_ERR_\w+|HPE_\w+|Z_\w+|ERR_\w+)$/;

function remedyFor(failure: string, origin: string, hasToken: boolean, timeoutSeconds: number): string {
  if (kindOf(failure) === 'denied') {
    return hasToken
      ? 'The functions refuse the caller of FENCEPOST_WARM_TOKEN: set it to a secret key of the project.'
      : 'The functions ask who calls: set FENCEPOST_WARM_TOKEN to a secret key of the project.';
  }
  switch (failure) {
    case 'HTTP 404':
      return 'Nothing is served at this path: correct it, or deploy the function.';
    case 'HTTP 429':
      return 'The functions are throttled: lower --concurrency, or try again later.';
    case 'x-cache: BYPASS':
      return 'The functions go without their cache: health-check says why.';
    case 'timeout':
      return `There was no answer within ${timeoutSeconds} s: raise --timeout-seconds, or see the functions' log.`;
    default:
      break;
  }
  if (failure.startsWith('HTTP ')) {
    return kindOf(failure) === 'away'
      ? 'The functions are in trouble: health-check and their log say why.'
      : 'See what curl is answered: does the address name each parameter, and do the rows fill it as the function expects?';
  }
  if (NOBODY.test(failure)) return `Nobody answers at ${origin}: start it, or correct the address.`;
  if (INSECURE.test(failure))
    return `Somebody answers at ${origin}, but TLS with it fails: correct its certificate, or http and https in the address.`;
  if (BROKEN.test(failure))
    return `Somebody answers at ${origin}, but what comes is broken: see the functions' log, and what stands in between.`;
  return `The request to ${origin} failed by itself: see what curl says of it.`;
}
