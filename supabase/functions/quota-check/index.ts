/**
 * quota-check: may this organisation make another call to this model?
 *
 * The cache holds the quota's row. `remaining` and the current period are computed for each answer, so a hit is right even if the
 * period has ended since the row was loaded.
 */
import { readForOrganisation } from '../_shared/auth/read.ts';
import { keys } from '../_shared/cache.ts';
import { type FunctionDependencies, startFunction } from '../_shared/function.ts';
import { createEndpoint, type Handler } from '../_shared/http/endpoint.ts';
import { Problem } from '../_shared/http/problem.ts';

export interface QuotaRequest {
  readonly org: string;
  readonly provider: string;
  readonly model: string;
}

export interface QuotaAnswer extends QuotaRequest {
  /** Whether another call may be made now. */
  readonly allowed: boolean;
  /** Which quota decided: the model's, else the provider's, else the organisation's. */
  readonly scope: 'model' | 'provider' | 'organization';
  /** Tokens per period; null is unlimited. */
  readonly limit: number | null;
  readonly used: number;
  /** At least 0; null when unlimited. */
  readonly remaining: number | null;
  readonly period: Period;
  readonly resets_at: string;
}

export type Period = 'hour' | 'day' | 'week' | 'month';

/** A quota as quota_answer() returns it. */
export interface QuotaRow {
  readonly provider: string | null;
  readonly model: string | null;
  readonly limit: number | null;
  readonly used: number;
  readonly period: Period;
  readonly resets_at: string;
}

export function createHandler(dependencies: FunctionDependencies): Handler {
  return createEndpoint({
    name: 'quota-check',
    parameters: ['org', 'provider', 'model'],
    allowedOrigins: dependencies.settings.allowedOrigins,
    answer: async ({ request, readParameters, timing }) => {
      const caller = await timing.measure('auth', () => dependencies.authenticate(request));
      const parameters = await readParameters();
      const input: QuotaRequest = {
        org: parameters.identifier('org'),
        provider: parameters.identifier('provider'),
        model: parameters.identifier('model'),
      };
      const { value, cache } = await readForOrganisation(
        { ...dependencies, caller, timing },
        input.org,
        keys.quota(input.org, input.provider, input.model),
        (client) =>
          client.rpc('quota_answer', { org_id: input.org, provider: input.provider, model: input.model }),
      );
      if (value === null) {
        throw new Problem('QUOTA_NOT_FOUND', 'No quota covers this model. Add a row to quotas.', {
          cache,
        });
      }
      return { body: answerFrom(input, value as QuotaRow, dependencies.now()), cache };
    },
  });
}

export default { fetch: startFunction(createHandler) };

/** The answer that a quota's row gives at `now` (milliseconds since 1970). */
export function answerFrom(input: QuotaRequest, row: QuotaRow, now: number): QuotaAnswer {
  const hasEnded = Date.parse(row.resets_at) <= now;
  const used = hasEnded ? 0 : row.used;
  const remaining = row.limit === null ? null : Math.max(row.limit - used, 0);
  return {
    ...input,
    allowed: remaining === null || remaining > 0,
    scope: row.model !== null ? 'model' : row.provider !== null ? 'provider' : 'organization',
    limit: row.limit,
    used,
    remaining,
    period: row.period,
    resets_at: hasEnded ? endOfPeriod(row.period, now) : row.resets_at,
  };
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** The end of the period that contains `now`, in UTC, as record_usage() computes it. Weeks begin on Monday. */
export function endOfPeriod(period: Period, now: number): string {
  const date = new Date(now);
  const day = Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate());
  const daysSinceMonday = (date.getUTCDay() + 6) % 7;
  const ends: Readonly<Record<Period, number>> = {
    hour: now - (now % HOUR_MS) + HOUR_MS,
    day: day + DAY_MS,
    week: day + (7 - daysSinceMonday) * DAY_MS,
    month: Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1),
  };
  return new Date(ends[period]).toISOString();
}
