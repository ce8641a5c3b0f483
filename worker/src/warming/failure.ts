/** What `fencepost warm` says when requests failed: one sentence about what they have in common, and its remedy. Pure. */
import { WorkerError } from '../errors.ts';
import { ENOUGH_ALIKE, kindOf, type Tally } from './tally.ts';

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
  const { hopeless, asked, answered, failed, failures } = tally;
  if (hopeless !== undefined) {
    const remedy = remedyFor(hopeless, origin, hasToken, timeoutSeconds);
    return `Stopped after ${asked} requests, the last ${ENOUGH_ALIKE} of which failed alike (${hopeless}). ${remedy}`;
  }
  const [only] = failures.keys();
  if (answered === 0 && failures.size === 1 && only !== undefined) {
    return `No request was answered (${only}). ${remedyFor(only, origin, hasToken, timeoutSeconds)}`;
  }
  return `${failed} of ${asked} requests failed. The answers to the others are cached; see to these and run it again.`;
}

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
  if (!failure.startsWith('HTTP ')) return `Nobody answers at ${origin}: start it, or correct the address.`;
  return kindOf(failure) === 'away'
    ? 'The functions are in trouble: health-check and their log say why.'
    : 'See what curl is answered: does the address name and fill each parameter as the function expects?';
}
