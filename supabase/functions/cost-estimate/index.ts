/**
 * cost-estimate: the cost of a call, from the model's cached list price, in exact decimal arithmetic.
 */
import { readShared, requireUser } from '../_shared/auth/read.ts';
import { keys } from '../_shared/cache.ts';
import { type FunctionDependencies, startFunction } from '../_shared/function.ts';
import { createEndpoint, type Handler } from '../_shared/http/endpoint.ts';
import type { Parameters } from '../_shared/http/parameters.ts';
import { Problem } from '../_shared/http/problem.ts';
import { add, costOfTokens, type Decimal, formatDecimal, parseDecimal, ZERO } from './decimal.ts';

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
  /** Per million tokens; null is not offered or not known. */
  readonly price: {
    readonly input_per_mtok: string | null;
    readonly cached_input_per_mtok: string | null;
    readonly output_per_mtok: string | null;
  };
}

/** A row of model_prices. Its numbers are text, because a JSON number would be rounded. */
export interface PriceRow {
  readonly currency: string;
  readonly input_per_mtok: string | null;
  readonly cached_input_per_mtok: string | null;
  readonly output_per_mtok: string | null;
}

const COLUMNS = 'currency,input_per_mtok::text,cached_input_per_mtok::text,output_per_mtok::text';

export function createHandler(dependencies: FunctionDependencies): Handler {
  return createEndpoint({
    name: 'cost-estimate',
    parameters: ['provider', 'model', 'input_tokens', 'output_tokens', 'cached_tokens'],
    allowedOrigins: dependencies.settings.allowedOrigins,
    answer: async ({ request, readParameters, timing }) => {
      const caller = await timing.measure('auth', () => dependencies.authenticate(request));
      // Prices are for the service and for everyone who is signed in.
      if (caller.kind !== 'service') requireUser(caller);
      const input = costRequest(await readParameters());
      const { value, cache } = await readShared<PriceRow | null>(
        { ...dependencies, caller, timing },
        keys.cost(input.provider, input.model),
        async () =>
          (await dependencies.database.query(caller, (client) =>
            client
              .from('model_prices')
              .select(COLUMNS)
              .eq('provider', input.provider)
              .eq('model', input.model)
              .maybeSingle(),
          )) as PriceRow | null,
      );
      if (value === null) {
        throw new Problem('PRICE_NOT_FOUND', 'No price is known for this model.', { cache });
      }
      return { body: estimate(input, value), cache };
    },
  });
}

export default { fetch: startFunction(createHandler) };

/** @throws Problem INVALID_PARAMETER */
function costRequest(parameters: Parameters): Required<CostRequest> {
  const input = {
    provider: parameters.identifier('provider'),
    model: parameters.identifier('model'),
    input_tokens: parameters.count('input_tokens'),
    output_tokens: parameters.count('output_tokens'),
    cached_tokens: parameters.count('cached_tokens', 0),
  };
  if (input.cached_tokens > input.input_tokens) {
    throw new Problem('INVALID_PARAMETER', 'cached_tokens are part of input_tokens and cannot exceed them.', {
      field: 'cached_tokens',
    });
  }
  return input;
}

/**
 * The cost of a request at a price. Cached input that has no price of its own costs as much as other input.
 * @throws Problem PRICE_NOT_FOUND when the request has tokens whose price is not known
 */
export function estimate(input: Required<CostRequest>, price: PriceRow): CostAnswer {
  const uncached = costOf(price.input_per_mtok, input.input_tokens - input.cached_tokens, 'input');
  const cached = costOf(
    price.cached_input_per_mtok ?? price.input_per_mtok,
    input.cached_tokens,
    'cached input',
  );
  const output = costOf(price.output_per_mtok, input.output_tokens, 'output');
  return {
    ...input,
    currency: price.currency,
    cost: formatDecimal(add(add(uncached, cached), output)),
    breakdown: {
      input: formatDecimal(uncached),
      cached_input: formatDecimal(cached),
      output: formatDecimal(output),
    },
    price: {
      input_per_mtok: price.input_per_mtok,
      cached_input_per_mtok: price.cached_input_per_mtok,
      output_per_mtok: price.output_per_mtok,
    },
  };
}

function costOf(price: string | null, tokens: number, kind: string): Decimal {
  if (tokens === 0) return ZERO;
  if (price === null)
    throw new Problem('PRICE_NOT_FOUND', `No price for ${kind} tokens is known for this model.`);
  return costOfTokens(parseDecimal(price), tokens);
}
