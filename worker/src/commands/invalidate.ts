/**
 * `fencepost invalidate KEY|PATTERN…`: invalidates by hand as a write does, with a row in the outbox that the worker applies. The
 * command waits for the worker. Then it asks Redis itself, because a row also leaves the outbox when its target is put into `pending`:
 *
 *     invalidated   the row is gone, and Redis has confirmed a DEL of the same keys, or the epoch is a new one
 *     queued        the row is gone; the pattern is covered by no fence, so the queue sweeps through the keys
 *     refused       Redis refuses to delete these keys; the queue tries again and keeps it as a dead letter
 *     waiting       the row is still there: no worker applied it in time
 */

import { setTimeout as pause } from 'node:timers/promises';
import {
  deletionsFor,
  RESERVED_FIRST_SEGMENTS,
} from '../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { Outbox } from '../db/outbox.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import { duration } from '../lib/text.ts';
import { deleteProbe } from '../redis/apply.ts';
import { refusalOfTarget, UpstashFailure } from '../redis/errors.ts';
import type { CacheServer } from '../redis/upstash.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson } from './output.ts';

const WAIT_MS = 10_000;
const POLL_MS = 25;

export interface Invalidation {
  readonly target: string;
  readonly state: 'invalidated' | 'queued' | 'refused' | 'waiting';
  /** Of a refusal: one sentence with its remedy. */
  readonly reason?: string;
}

export function invalidate(
  variables: NodeJS.ProcessEnv,
  targets: readonly string[],
  json: boolean,
): Promise<ExitCode> {
  return withContext(variables, async ({ pool, cache }) => {
    const bad = targets.find(
      (target) => target === '' || Buffer.byteLength(target) > 8_192 || target.split(':').length > 32,
    );
    if (bad !== undefined) {
      throw new WorkerError(
        'INVALID_TARGET',
        'A target is a key or a pattern of at most 8192 bytes and 32 segments, such as orders:acme:*.',
        {
          exitCode: ExitCode.usage,
        },
      );
    }
    const reserved = targets.find((target) => RESERVED_FIRST_SEGMENTS.has(target.split(':', 1)[0] ?? ''));
    if (reserved !== undefined) {
      throw new WorkerError(
        'INVALID_TARGET',
        `The type of ${reserved} is reserved: the cache keeps its fences and its heartbeat there. Give the type another name, for example fences:1.`,
        { exitCode: ExitCode.usage },
      );
    }
    const outbox = new Outbox(pool);
    const startedAt = performance.now();
    const written: { target: string; xid: string }[] = [];
    for (const target of targets) written.push({ target, xid: await outbox.invalidate(target) });
    const xids = written.map(({ xid }) => xid);
    const allGone = await untilGone(xids, () => outbox.remaining(xids));
    const invalidations: Invalidation[] = [];
    for (const { target, xid } of written) {
      const waits = !allGone && (await outbox.remaining([xid])) > 0;
      invalidations.push(waits ? { target, state: 'waiting' } : await confirmed(cache, target));
    }
    const ms = performance.now() - startedAt;
    const applied = invalidations.every(({ state }) => state === 'invalidated');
    if (json) printJson({ applied, ms: Math.round(ms), targets: invalidations });
    else show(invalidations, ms);
    return exitCodeOf(invalidations);
  });
}

/**
 * What has become of a target whose row is gone.
 *
 * @throws UpstashFailure when Redis does not answer
 */
async function confirmed(cache: CacheServer, target: string): Promise<Invalidation> {
  const { keys, sweep } = deletionsFor(target);
  if (sweep !== null) return { target, state: 'queued' };
  try {
    await cache.del(keys);
    return { target, state: 'invalidated' };
  } catch (error) {
    if (!(error instanceof UpstashFailure) || error.course === 'wait') throw error;
    await deleteProbe(cache);
    return { target, state: 'refused', reason: refusalOfTarget(error).message };
  }
}

function show(invalidations: readonly Invalidation[], ms: number): void {
  const named = (state: Invalidation['state']) =>
    invalidations
      .filter((invalidation) => invalidation.state === state)
      .map(({ target }) => target)
      .join('  ');
  const done = named('invalidated');
  if (done !== '') print(`${paint('ok', 'invalidated')}  ${done}  (${duration(ms)})`);
  const queued = named('queued');
  if (queued !== '') {
    print(
      `${paint('warn', 'queued')}  ${queued}: no fence covers this, so it was handed to the queue for a sweep, and is pending until that is confirmed; "fencepost status" shows when nothing waits.`,
    );
  }
  for (const { target, state, reason } of invalidations)
    if (state === 'refused') print(`${paint('fail', 'refused')}  ${target}: ${reason}`);
  const waiting = named('waiting');
  if (waiting !== '') {
    print(
      `${paint('warn', 'waiting')}  ${waiting}: kept in the outbox, and not applied within ${duration(WAIT_MS)}. Start a worker with "fencepost run"; if one runs, its /readyz and "fencepost doctor" say what is in the way.`,
    );
  }
}

/** The worst of them. */
function exitCodeOf(invalidations: readonly Invalidation[]): ExitCode {
  const states = new Set(invalidations.map(({ state }) => state));
  if (states.has('refused')) return ExitCode.denied;
  if (states.has('waiting')) return ExitCode.unavailable;
  return states.has('queued') ? ExitCode.abandoned : ExitCode.ok;
}

async function untilGone(xids: readonly string[], remaining: () => Promise<number>): Promise<boolean> {
  const until = performance.now() + WAIT_MS;
  while (performance.now() < until) {
    if (xids.length === 0 || (await remaining()) === 0) return true;
    await pause(POLL_MS);
  }
  return false;
}
