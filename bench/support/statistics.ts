/** Quantiles of a benchmark's samples, and the clock that its processes share. */

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The smallest sample that at least this share of the samples do not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Milliseconds of the machine's monotonic clock, the same in every process. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
