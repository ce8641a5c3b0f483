import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { add, costOfTokens, formatDecimal, parseDecimal } from './decimal.ts';
import { estimate } from './index.ts';

const price = {
  currency: 'USD',
  input_per_mtok: '0.25',
  cached_input_per_mtok: '0.025',
  output_per_mtok: '2',
};
const input = {
  provider: 'openai',
  model: 'gpt-5-mini',
  input_tokens: 0,
  output_tokens: 0,
  cached_tokens: 0,
};

/** A non-negative decimal as text, with the integer it is in units of 10⁻¹². */
const decimal = fc
  .tuple(fc.bigInt({ min: 0n, max: 10n ** 9n }), fc.bigInt({ min: 0n, max: 10n ** 12n - 1n }))
  .map(([whole, fraction]) => ({
    text: `${whole}.${fraction.toString().padStart(12, '0')}`,
    picos: whole * 10n ** 12n + fraction,
  }));

describe('decimals', () => {
  it('comes back as it was written, without trailing zeros', () => {
    expect(formatDecimal(parseDecimal('0.003625'))).toBe('0.003625');
    expect(formatDecimal(parseDecimal('10.00'))).toBe('10');
    expect(formatDecimal(parseDecimal('0'))).toBe('0');
  });

  it('adds and multiplies exactly, as whole numbers of a small unit do', () => {
    fc.assert(
      fc.property(decimal, decimal, fc.maxSafeNat(), (a, b, tokens) => {
        expect(formatDecimal(add(parseDecimal(a.text), parseDecimal(b.text)))).toBe(
          formatDecimal({ units: a.picos + b.picos, scale: 12 }),
        );
        expect(formatDecimal(costOfTokens(parseDecimal(a.text), tokens))).toBe(
          formatDecimal({ units: a.picos * BigInt(tokens), scale: 18 }),
        );
      }),
    );
  });

  it.each(['', '-1', '1e3', 'NaN', '.5', '1.', '1,5'])('refuses %j', (text) => {
    expect(() => parseDecimal(text)).toThrow(RangeError);
  });
});

describe('estimate', () => {
  it('prices input, cached input and output, where binary fractions would drift', () => {
    const answer = estimate({ ...input, input_tokens: 1_003, cached_tokens: 3, output_tokens: 7 }, price);
    expect(answer.breakdown).toEqual({ input: '0.00025', cached_input: '0.000000075', output: '0.000014' });
    expect(answer.cost).toBe('0.000264075');
    const tenth = estimate({ ...input, input_tokens: 300_000 }, { ...price, input_per_mtok: '0.1' });
    expect(tenth.cost).toBe('0.03');
  });

  it('stays exact for the largest request', () => {
    const answer = estimate({ ...input, input_tokens: 999_999_999_999_999 }, price);
    expect(answer.cost).toBe('249999999.99999975');
  });

  it('charges cached input as input where it has no price of its own', () => {
    const answer = estimate(
      { ...input, input_tokens: 1_000_000, cached_tokens: 500_000 },
      { ...price, cached_input_per_mtok: null },
    );
    expect(answer.cost).toBe('0.25');
  });

  it('does not call an unknown price free', () => {
    const embedding = { ...price, output_per_mtok: null };
    expect(estimate({ ...input, input_tokens: 1_000_000 }, embedding).cost).toBe('0.25');
    expect(() => estimate({ ...input, output_tokens: 1 }, embedding)).toThrow('No price for output tokens');
  });
});
