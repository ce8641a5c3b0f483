/**
 * The sessions that deliver: workers that claim, delete and acknowledge, those who work on what is pending, and one that settles a
 * backlog by a new epoch. Redis is only played: it confirms or refuses each target. Each `yield` ends a step.
 */
import type pg from 'pg';
import { type Batch, Outbox } from '../../worker/src/db/outbox.ts';
import { Pending, type PendingTarget } from '../../worker/src/db/pending.ts';
import type { Unconfirmed } from '../../worker/src/db/pending-put.ts';
import type { Actor, Schedule } from './schedules.ts';

/** What delivery does where a negative control does something else. */
export interface Rules {
  /** Whether the position is given up together with a batch. */
  readonly resets: boolean;
  /** The targets of a batch that are deleted. All of its transactions are acknowledged. */
  applied(targets: readonly string[]): readonly string[];
  /** Its statements, one after the other. */
  acknowledge(client: pg.Client, xids: string, left: readonly Unconfirmed[]): (() => Promise<unknown>)[];
  confirm(client: pg.Client, read: readonly PendingTarget[], secondMs: number): Promise<unknown>;
  /** Whether a backlog's snapshot is taken before its epoch is sent. */
  readonly snapshotComesFirst: boolean;
}

export const RIGHT: Rules = {
  resets: true,
  applied: (targets) => targets,
  acknowledge: (client, xids, left) => [() => new Outbox(client).acknowledge(xids, left)],
  confirm: (client, read, secondMs) => new Pending(client).confirm(read, secondMs),
  snapshotComesFirst: true,
};

interface Flight {
  readonly batch: Batch;
  readonly targets: readonly string[];
  /** The step in which the DEL was sent; null: not yet. */
  sentAt: number | null;
  /** What Redis has not confirmed for good; null: not answered yet. */
  left: Unconfirmed[] | null;
}

/** A worker, or several one after the other: now and then it gives up what it has in flight, and begins anew. */
export async function* worker(schedule: Schedule, client: pg.Client, rules: Rules): Actor {
  const { below } = schedule;
  const outbox = new Outbox(client);
  /** Throttled targets that ran. */
  const ran = new Set<string>();
  let position: string | null = null;
  let flights: Flight[] = [];
  /** The step in which this position handed out each target last. */
  let handedOut = new Map<string, number>();
  let isDone = false;

  function answer({ batch, targets }: Flight, sentAt: number): Unconfirmed[] {
    const left: Unconfirmed[] = [];
    for (const target of rules.applied(targets)) {
      const isThrottled =
        (schedule.focus.throttled !== undefined && below(4) < schedule.focus.throttled) ||
        (ran.has(target) && batch.targets.some((each) => each.target === target && each.intervalMs !== null));
      if (isThrottled && !schedule.isEnding) left.push({ target, why: 'throttled', waitMs: 0 });
      else if (schedule.redis(target, sentAt)) {
        ran.add(target);
        if (schedule.hasReplicas) left.push({ target, why: 'second delete', waitMs: 0 });
      } else left.push({ target, why: 'refused', waitMs: 0, code: 'UPSTASH_REFUSED' });
    }
    return left;
  }

  while (!isDone || flights.length > 0) {
    const flight = flights.length > 0 ? schedule.pick(flights) : null;
    if (below(12) === 0 && !schedule.isEnding) {
      schedule.note(`gives up ${flights.length} batches`);
      flights = [];
      if (rules.resets) {
        position = null;
        handedOut = new Map();
      }
    } else if (flight === null || (flights.length < 3 && below(3) === 0)) {
      const maxRows = schedule.focus.isEager ? 100 : 1 + below(5);
      const batch = await outbox.claim(position, maxRows);
      await schedule.checkBatch(batch, maxRows);
      position = batch.position;
      isDone = batch.drained && schedule.isEnding;
      const targets = [...new Set(batch.targets.map(({ target }) => target))];
      for (const target of targets) handedOut.set(target, schedule.step);
      schedule.note(`claim(${maxRows}): ${batch.xids} with ${targets}${batch.drained ? ', drained' : ''}`);
      if (batch.drained) await schedule.checkDrained(handedOut);
      if (batch.xids === null) schedule.isIdle = true;
      else flights.push({ batch, targets, sentAt: null, left: null });
    } else if (flight.sentAt === null) {
      flight.sentAt = schedule.step;
      schedule.note(`DEL ${flight.targets}`);
    } else if (flight.left === null) {
      flight.left = answer(flight, flight.sentAt);
      schedule.note(`left: ${flight.left.map(({ target, why }) => `${target} ${why}`)}`);
    } else {
      schedule.note(`acknowledge ${flight.batch.xids}`);
      for (const statement of rules.acknowledge(client, flight.batch.xids ?? '{}', flight.left)) {
        await statement();
        await schedule.check();
      }
      flights = flights.filter((other) => other !== flight);
    }
    if (!schedule.focus.isEager || flights.length === 0) yield;
  }
}

/** Works on what is pending: the queue's part, and the delivery loop's throttled targets. */
export async function* looker(schedule: Schedule, client: pg.Client, rules: Rules): Actor {
  const { below } = schedule;
  const pending = new Pending(client);
  for (;;) {
    // Time passes, and somebody calls `fencepost retry`.
    await client.query('update cache_invalidation.pending set due_at = clock_timestamp(), failed_at = null');
    const kind = below(4) === 0 ? 'throttled' : 'delete';
    const read = await pending.due(kind, 3);
    const sentAt = schedule.step;
    if (read.length === 0) {
      schedule.isIdle = true;
      if (schedule.isEnding && (await schedule.isEmpty('pending'))) return;
      yield;
      continue;
    }
    schedule.note(`reads pending, DEL ${read.map(({ target }) => target)}`);
    yield;
    const confirmed = read.filter(({ target }) => schedule.redis(target, sentAt, 1));
    const refused = read.filter((each) => !confirmed.includes(each));
    schedule.note(`refused: ${refused.map(({ target }) => target)}`);
    yield;
    // As the delivery loop does: what Redis refuses of its throttled targets is the queue's.
    if (kind === 'throttled')
      await pending.put(refused.map(({ target }) => ({ target, why: 'refused', waitMs: 0 })));
    await rules.confirm(client, confirmed, schedule.hasReplicas && !schedule.isEnding ? 1 : 0);
    if (kind === 'delete')
      await pending.refused(
        refused,
        refused.map(() => 'UPSTASH_REFUSED'),
      );
    schedule.note('writes that to pending');
    await schedule.check();
    yield;
  }
}

/** Settles a backlog, and sometimes makes one change of it. */
export async function* settler(schedule: Schedule, client: pg.Client, rules: Rules): Actor {
  const outbox = new Outbox(client);
  while (!schedule.isEnding) {
    let snapshot = await outbox.snapshot();
    schedule.note('takes a snapshot');
    yield;
    await outbox.newEpoch();
    const sentAt = schedule.step;
    schedule.note('a new epoch');
    yield;
    if (!rules.snapshotComesFirst) snapshot = await outbox.snapshot();
    schedule.model.confirmed('*', sentAt);
    schedule.note('Redis has the epoch');
    yield;
    await outbox.discard(snapshot, 1_000);
    schedule.note('discard');
    await schedule.check();
    yield;
    if (schedule.below(4) > 0) continue;
    await client.query('select cache_invalidation.compact()');
    schedule.note('compact');
    await schedule.check();
    yield;
  }
}
