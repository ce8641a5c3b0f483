/**
 * cache_invalidation.pending under random schedules of a writer, two deliveries and three lookers. After each step an event that stands
 * in neither outbox nor `pending` must have been covered by a DEL that Redis accepted.
 */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Outbox } from '../../worker/src/db/outbox.ts';
import { Pending, type PendingTarget } from '../../worker/src/db/pending.ts';
import type { Unconfirmed } from '../../worker/src/db/pending-put.ts';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { randomBelow } from '../support/random.ts';

let database: ClonedDatabase;
let client: pg.Client;
let outbox: Outbox;
let pending: Pending;

beforeAll(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  outbox = new Outbox(client);
  pending = new Pending(client);
});
afterAll(async () => {
  await client?.end();
  await database?.drop();
});

const refused = (target: string): Unconfirmed => ({ target, why: 'refused', waitMs: 0 });

const SEEDS = 30;
const STEPS = 150;
const TARGETS = ['a:1', 'a:2'];

/** Each `yield` of an actor lets the others go on. @returns what was lost, or null */
async function play(seed: number, confirm: (read: readonly PendingTarget[]) => Promise<unknown>) {
  const below = randomBelow(seed * 2_654_435_761 + 1);
  /** Events of each target, and how many of them an accepted DEL has covered. */
  const written = new Map(TARGETS.map((target) => [target, 0]));
  const covered = new Map(TARGETS.map((target) => [target, 0]));
  const accepts = (target: string): boolean => {
    const isAccepted = below(2) === 0;
    if (isAccepted) covered.set(target, written.get(target) ?? 0);
    return isAccepted;
  };
  async function* writer() {
    for (;;) {
      const target = TARGETS[below(TARGETS.length)] ?? '';
      await outbox.invalidate(target);
      written.set(target, (written.get(target) ?? 0) + 1);
      yield;
    }
  }
  async function* delivery() {
    for (;;) {
      const { xids, targets } = await outbox.claim(null, 10);
      yield;
      const names = [...new Set(targets.map(({ target }) => target))];
      const waiting = names.filter(() => below(3) === 0);
      const left = names.filter((target) => !waiting.includes(target) && !accepts(target));
      yield;
      await outbox.acknowledge(xids ?? '{}', [
        ...left.map((target) => refused(target)),
        ...waiting.map((target): Unconfirmed => ({ target, why: 'throttled', waitMs: 0 })),
      ]);
      yield;
    }
  }
  async function* looker(kind: 'delete' | 'throttled') {
    for (;;) {
      const read = await pending.due(kind, 10);
      yield;
      const taken = read.filter(({ target }) => accepts(target));
      yield;
      // As the delivery loop does: what is refused becomes the queue's.
      if (kind === 'throttled')
        await pending.put(read.filter((one) => !taken.includes(one)).map(({ target }) => refused(target)));
      await confirm(taken);
      yield;
    }
  }
  await client.query('delete from cache_invalidation.changes; delete from cache_invalidation.pending');
  const lookers = [looker('delete'), looker('delete'), looker('throttled')];
  const actors = [writer(), delivery(), delivery(), ...lookers];
  let actor = actors[0];
  for (let step = 0; step < STEPS; step++) {
    // Half of the time the same one goes on: most of what goes wrong needs one that stands still while another works.
    if (below(2) === 0) actor = actors[below(actors.length)];
    await actor?.next();
    const left = await client.query<{ target: string }>(
      'select change as target from cache_invalidation.changes union select target from cache_invalidation.pending',
    );
    const unconfirmed = new Set(left.rows.map(({ target }) => target));
    for (const target of TARGETS)
      if (!unconfirmed.has(target) && (covered.get(target) ?? 0) < (written.get(target) ?? 0))
        return `seed ${seed}, step ${step}: ${target}`;
  }
  return null;
}

test('what stands in neither table has been confirmed', async () => {
  for (let seed = 0; seed < SEEDS; seed++)
    expect(await play(seed, (read) => pending.confirm(read, 0))).toBeNull();
});

test('a confirmation that goes by the row alone is found out', async () => {
  const byRow = (read: readonly PendingTarget[]) =>
    client.query('delete from cache_invalidation.pending where id = any($1)', [read.map(({ id }) => id)]);
  let lost = 0;
  for (let seed = 0; seed < SEEDS; seed++) if ((await play(seed, byRow)) !== null) lost++;
  expect(lost).toBeGreaterThan(0);
});
