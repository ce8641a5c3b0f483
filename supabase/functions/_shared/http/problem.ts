/**
 * The errors that callers of the functions see: `application/problem+json` (RFC 9457) with a stable `code` and a remedy. A problem
 * describes what is wrong with the request. It holds no stack, no address and no value of another tenant; the cause is for the
 * log, and the log gets its name and code only.
 */

/** Every code that a function answers with, and its status. A code never changes its meaning; new codes may be added. */
export const PROBLEM_STATUS = {
  INVALID_PARAMETER: 400,
  INVALID_BODY: 400,
  TOKEN_MISSING: 401,
  TOKEN_INVALID: 401,
  TOKEN_EXPIRED: 401,
  FORBIDDEN: 403,
  NOT_A_MEMBER: 403,
  QUOTA_NOT_FOUND: 404,
  PRICE_NOT_FOUND: 404,
  SESSION_NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  BODY_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  RATE_LIMITED: 429,
  INTERNAL: 500,
  AUTH_UNAVAILABLE: 503,
  DATABASE_UNAVAILABLE: 503,
  MISCONFIGURED: 503,
} as const;

export type ProblemCode = keyof typeof PROBLEM_STATUS;

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Authentication required',
  403: 'Forbidden',
  404: 'Not found',
  405: 'Method not allowed',
  413: 'Content too large',
  415: 'Unsupported media type',
  429: 'Too many requests',
  500: 'Internal error',
  503: 'Service unavailable',
};

export interface ProblemOptions {
  /** The parameter at fault, for status 400. */
  readonly field?: string;
  /** Headers of the answer, such as `allow` or `retry-after`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The `x-cache` header, where the absence of a row was looked up through the cache. */
  readonly cache?: string;
  readonly cause?: unknown;
}

/** Thrown anywhere in a function to end the request. The endpoint turns it into the answer. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly status: number;
  readonly field: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly cache: string | undefined;

  /** @param detail One sentence for the caller, with the remedy. It must not repeat untrusted input. */
  constructor(code: ProblemCode, detail: string, options: ProblemOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = PROBLEM_STATUS[code];
    this.field = options.field;
    this.headers = options.headers ?? {};
    this.cache = options.cache;
  }

  /** The members of the problem document. */
  toDocument(): {
    type: string;
    title: string;
    status: number;
    code: string;
    detail: string;
    field?: string;
  } {
    return {
      type: 'about:blank',
      title: TITLES[this.status] ?? 'Error',
      status: this.status,
      code: this.code,
      detail: this.message,
      ...(this.field === undefined ? {} : { field: this.field }),
    };
  }
}

/** Makes a problem of anything thrown. What is not a Problem becomes INTERNAL, and its cause goes to the log only. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem('INTERNAL', 'The function failed. Try again; if it persists, its log says why.', {
    cause: error,
  });
}

/** The loggable part of an error: names and codes. Messages are left out, because clients put whole commands into them. */
export function describeForLog(error: unknown): { name: string; code?: string; cause?: string } {
  if (!(error instanceof Error)) return { name: typeof error };
  const code = (error as { code?: unknown }).code;
  const cause = error.cause instanceof Error ? error.cause.name : undefined;
  return {
    name: error.name,
    ...(typeof code === 'string' ? { code } : {}),
    ...(cause === undefined ? {} : { cause }),
  };
}
