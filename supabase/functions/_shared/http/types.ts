/**
 * Requests and answers of the functions, for those who call them; openapi.json says the same and a test holds both against the
 * running functions. Times are UTC, ISO 8601. Money is a decimal string: a JSON number would be rounded to a binary fraction.
 */

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
  /** Tokens a period; null is unlimited. */
  readonly limit: number | null;
  readonly used: number;
  /** Never below 0; null when unlimited. */
  readonly remaining: number | null;
  readonly period: Period;
  readonly resets_at: string;
}

export type Period = 'hour' | 'day' | 'week' | 'month';

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

export interface CostRequest {
  readonly provider: string;
  readonly model: string;
  /** All input tokens, including the cached ones. */
  readonly input_tokens: number;
  readonly output_tokens: number;
  /** Input tokens read from the provider's prompt cache; default 0. */
  readonly cached_tokens?: number;
}

export interface CostAnswer extends Required<CostRequest> {
  readonly currency: string;
  /** Sum of the breakdown, exact. */
  readonly cost: string;
  readonly breakdown: { readonly input: string; readonly cached_input: string; readonly output: string };
  /** For a million tokens; null is not offered, or not known. */
  readonly price: {
    readonly input_per_mtok: string | null;
    readonly cached_input_per_mtok: string | null;
    readonly output_per_mtok: string | null;
  };
}

export interface SessionRequest {
  readonly id: string;
}

export interface SessionAnswer {
  readonly id: string;
  readonly user_id: string | null;
  readonly org_id: string | null;
  readonly status: string;
  readonly state: unknown;
  readonly updated_at: string;
}

export interface PreferencesRequest {
  /** For the service only: whose preferences. A user gets their own. */
  readonly user?: string;
}

export interface PreferencesAnswer {
  readonly user_id: string;
  /** The stored preferences over the defaults. */
  readonly preferences: Readonly<Record<string, unknown>>;
  /** True when nothing is stored for this user. */
  readonly is_default: boolean;
}

export interface HealthAnswer {
  /**
   * `degraded`: answers are right but slower, because the cache or the worker is away, or older than usual, because
   * invalidations wait for more than 5 s. `unhealthy`: the database is away or took longer than 2 s.
   */
  readonly status: 'healthy' | 'degraded' | 'unhealthy';
  readonly cache: {
    /** Whether a cache is configured. */
    readonly enabled: boolean;
    readonly connected: boolean;
    /** Redis's DBSIZE, which counts the keys of everyone who shares the database; 0 while it is away. */
    readonly keyCount: number;
    readonly latencyMs: number | null;
  };
  readonly database: { readonly connected: boolean; readonly latencyMs: number | null };
  readonly worker: {
    /** Whether the worker's heartbeat is there; null when nobody can tell. */
    readonly alive: boolean | null;
    /** Age of the oldest invalidation that has not been carried out. */
    readonly secondsBehind: number | null;
  };
}
