/**
 * Exact decimal arithmetic on non-negative numbers, for prices times tokens. A decimal is an integer and its number of digits
 * after the point. JavaScript numbers cannot hold 0.1 exactly, and a bill is a sum of many such prices.
 */

export interface Decimal {
  readonly units: bigint;
  /** Digits after the point: units 1250 with scale 3 is 1.25. */
  readonly scale: number;
}

export const ZERO: Decimal = { units: 0n, scale: 0 };

/**
 * Parses plain decimal notation such as `0.003625`, which is how Postgres prints a numeric.
 * @throws RangeError for everything else, such as signs, exponents and NaN
 */
export function parseDecimal(text: string): Decimal {
  const match = /^(\d{1,40})(?:\.(\d{1,40}))?$/.exec(text);
  if (match === null) throw new RangeError('Not a plain decimal number.');
  const [, whole = '0', fraction = ''] = match;
  return { units: BigInt(whole + fraction), scale: fraction.length };
}

/** a + b */
export function add(a: Decimal, b: Decimal): Decimal {
  const scale = Math.max(a.scale, b.scale);
  return {
    units: a.units * 10n ** BigInt(scale - a.scale) + b.units * 10n ** BigInt(scale - b.scale),
    scale,
  };
}

/** price × tokens ÷ 10⁶, exactly: dividing by a power of ten only moves the point. */
export function costOfTokens(pricePerMillion: Decimal, tokens: number): Decimal {
  return { units: pricePerMillion.units * BigInt(tokens), scale: pricePerMillion.scale + 6 };
}

/** Prints plain notation without trailing zeros: `0.00125`, `3`. */
export function formatDecimal({ units, scale }: Decimal): string {
  const digits = units.toString().padStart(scale + 1, '0');
  const whole = digits.slice(0, digits.length - scale);
  const fraction = digits.slice(digits.length - scale).replace(/0+$/, '');
  return fraction === '' ? whole : `${whole}.${fraction}`;
}
