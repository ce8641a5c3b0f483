/**
 * usage-summary: tokens, requests and cost of an organisation over some days, by model and by day.
 *
 * Never more than a minute behind: the first event after a quiet minute makes cached summaries unreadable at once, later ones
 * at most once a minute (the watch on usage_events), and the last of a burst is never lost.
 */
import { readForOrganisation } from '../_shared/auth/read.ts';
import { keys } from '../_shared/cache.ts';
import type { FunctionDependencies } from '../_shared/function.ts';
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

/** Each event's figures are exact; a sum above 2^53 is rounded by whoever reads it as a binary fraction, as JavaScript does. */
export interface UsageFigures {
  readonly requests: number;
  /** All input tokens; of these, cached_tokens came from the provider's prompt cache. */
  readonly input_tokens: number;
  readonly cached_tokens: number;
  readonly output_tokens: number;
  /** US dollars, exact. */
  readonly cost: string;
  /** Requests whose price was not known when they were made; their cost is not in `cost`. */
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
/** A leap year. Longer ranges are reports, not something to wait for. */
export const MAX_DAYS = 366;

export function createHandler(dependencies: FunctionDependencies): Handler {
  return createEndpoint({
    name: 'usage-summary',
    parameters: ['org', 'start', 'end'],
    allowedOrigins: dependencies.settings.allowedOrigins,
    answer: async ({ request, readParameters, timing }) => {
      const caller = await timing.measure('auth', () => dependencies.authenticate(request));
      const parameters = await readParameters();
      const asked = usageRequest(parameters);
      const { value, cache } = await readForOrganisation(
        { ...dependencies, caller, timing },
        asked.org,
        keys.usage(asked.org, asked.start, asked.end),
        (client) =>
          client.rpc('usage_answer', { org_id: asked.org, start_date: asked.start, end_date: asked.end }),
      );
      const answer: UsageAnswer = { ...asked, ...(value as Omit<UsageAnswer, keyof UsageRequest>) };
      return { body: answer, cache };
    },
  });
}

/** @throws Problem INVALID_PARAMETER */
export function usageRequest(parameters: Parameters): UsageRequest {
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
