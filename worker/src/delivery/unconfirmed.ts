/** What is left to do for the targets of a batch, as `pending` takes it. */
import { FIRST_PAUSE_MS } from '../db/pending.ts';
import type { Unconfirmed } from '../db/pending-put.ts';
import { UNDECIDED_PAUSE_MS } from '../queue/pending-work.ts';
import type { Applied } from '../redis/apply.ts';

/** What Redis has not confirmed. */
export function unconfirmed({ refused, undecided, sweeps }: Applied): readonly Unconfirmed[] {
  const found = new Map<string, Unconfirmed>();
  for (const target of undecided) found.set(target, { target, why: 'refused', waitMs: UNDECIDED_PAUSE_MS });
  for (const [target, { code }] of refused)
    found.set(target, { target, why: 'refused', waitMs: FIRST_PAUSE_MS, code });
  for (const target of sweeps) found.set(target, { target, why: 'sweep', waitMs: 0 });
  return [...found.values()];
}

/** @param replicaLagMs 0: what is confirmed is done */
export function withSecond(
  left: readonly Unconfirmed[],
  targets: readonly string[],
  replicaLagMs: number,
): readonly Unconfirmed[] {
  if (replicaLagMs === 0) return left;
  const found = new Set(left.map(({ target }) => target));
  // A second epoch covers all others.
  const confirmed = targets.includes('*') ? ['*'] : targets.filter((target) => !found.has(target));
  return [
    ...left,
    ...confirmed.map((target): Unconfirmed => ({ target, why: 'second delete', waitMs: replicaLagMs })),
  ];
}

/** @param later until when each of them waits, by `performance.now()` */
export function throttled(later: ReadonlyMap<string, number>): readonly Unconfirmed[] {
  const now = performance.now();
  return [...later].map(([target, dueAt]) => ({
    target,
    why: 'throttled',
    waitMs: Math.max(0, dueAt - now),
  }));
}

/** Milliseconds until the first of them is due; Infinity: there are none. */
export function earliestMs(left: readonly Unconfirmed[]): number {
  return left.reduce((least, { waitMs }) => Math.min(least, waitMs), Infinity);
}
