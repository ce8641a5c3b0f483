/**
 * usage-summary: an organisation's tokens, requests and cost over some days, by model and by day.
 *
 * An answer is at most one minute old. The watch on usage_events invalidates cached summaries at once after a minute without
 * events, then at most once a minute, and always after the last event.
 */
import { readForOrganisation } from '../_shared/auth/read.ts';
import { keys } from '../_shared/cache.ts';
import { type FunctionDependencies, startFunction } from '../_shared/function.ts';
import { createEndpoint, type Handler } from '../_shared/http/endpoint.ts';
import type { Parameters } from '../_shared/http/parameters.ts';
import { Problem } from '../_shared/http/problem.ts';

export interface UsageRequest {
  readonly org: string;
  /** First day, YYYY-MM-DD (UTC). */
  readonly start: string;
  /** Last day, included. At most 366 days from start. */
  readonly end: string;
}

/** Figures are exact as sent. JavaScript rounds a number above 2^53 when it parses it. */
export interface UsageFigures {
  readonly requests: number;
  /** All input tokens, including the cached ones. */
  readonly input_tokens: number;
  /** Input tokens that came from the provider's prompt cache. */
  readonly cached_tokens: number;
  readonly output_tokens: number;
  /** US dollars, exact. */
  readonly cost: string;
  /** Requests whose price was unknown when they were made. `cost` does not include them. */
  readonly unpriced_requests: number;
}

export interface UsageAnswer extends UsageRequest {
  readonly totals: UsageFigures;
  readonly by_model: readonly (UsageFigures & {
    readonly provider: string | null;
    readonly model: string | null;
  })[];
  /** Days with usage, in order. */
  readonly by_day: readonly (UsageFigures & { readonly date: string })[];
}

const DAY_MS = 86_400_000;
/** A leap year. */
const MAX_DAYS = 366;

export function createHandler(dependencies: FunctionDependencies): Handler {
  return createEndpoint({
    name: 'usage-summary',
    parameters: ['org', 'start', 'end'],
    allowedOrigins: dependencies.settings.allowedOrigins,
    answer: async ({ request, readParameters, timing }) => {
      const caller = await timing.measure('auth', () => dependencies.authenticate(request));
      const parameters = await readParameters();
      const input = usageRequest(parameters);
      const { value, cache } = await readForOrganisation(
        { ...dependencies, caller, timing },
        input.org,
        keys.usage(input.org, input.start, input.end),
        (client) =>
          client.rpc('usage_answer', { org_id: input.org, start_date: input.start, end_date: input.end }),
      );
      const answer: UsageAnswer = { ...input, ...(value as Omit<UsageAnswer, keyof UsageRequest>) };
      return { body: answer, cache };
    },
  });
}

export default { fetch: startFunction(createHandler) };

/** @throws Problem INVALID_PARAMETER */
function usageRequest(parameters: Parameters): UsageRequest {
  const org = parameters.identifier('org');
  const start = parameters.date('start');
  const end = parameters.date('end');
  const days = (Date.parse(end) - Date.parse(start)) / DAY_MS + 1;
  if (days < 1) {
    throw new Problem('INVALID_PARAMETER', 'end must not be before start.', { field: 'end' });
  }
  if (days > MAX_DAYS) {
    throw new Problem('INVALID_PARAMETER', `Ask for at most ${MAX_DAYS} days.`, { field: 'end' });
  }
  return { org, start, end };
}
