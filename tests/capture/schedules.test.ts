/**
 * The schedules of schedules.ts, as many as FENCEPOST_SCHEDULES / 125 says (40 in `npm test`, 800 in a nightly run), or the one of
 * FENCEPOST_SEED; and their negative controls: the same invariant finds each worker and each engine that breaks one rule of
 * docs/protocol.md.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PUT, putValues } from '../../worker/src/db/pending-put.ts';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { Sessions } from './schedule-sessions.ts';
import { RIGHT, type Rules } from './schedule-workers.ts';
import { type FocusName, KINDS, play } from './schedules.ts';

const SCHEDULES = Math.ceil(Number(process.env.FENCEPOST_SCHEDULES ?? 5_000) / 125);
/** Each control is found in the first 40 of its schedules, most in the first ten. */
const CONTROL_SCHEDULES = 200;
const only = process.env.FENCEPOST_SEED;
const seeds = only === undefined ? [...Array(SCHEDULES).keys()] : [Number(only)];
const timeout = 120_000 + SCHEDULES * 2_000;

let database: ClonedDatabase;
let sessions: Sessions;

beforeAll(async () => {
  database = await cloneDatabase();
  sessions = new Sessions();
  await sessions.open(database.url, KINDS.length);
});

afterAll(async () => {
  await sessions?.close();
  await database?.drop();
});

test(`nothing is lost, skipped or left in ${seeds.length} schedules`, { timeout }, async () => {
  for (const seed of seeds) await play(sessions, seed, RIGHT);
});

describe.runIf(only === undefined)('the invariant finds', () => {
  /** Plays until it fails. */
  async function expectFound(focus: FocusName, rules: Rules): Promise<void> {
    for (let seed = 0; seed < CONTROL_SCHEDULES; seed++) {
      try {
        await play(sessions, seed, rules, focus);
      } catch (error) {
        expect(String(error)).toMatch(/was lost|was skipped|not confirmed|changes are left/);
        return;
      }
    }
    expect.fail(`not found in ${CONTROL_SCHEDULES} schedules`);
  }

  const ACKNOWLEDGE = 'cache_invalidation.acknowledge($1::xid8[])';

  /** An acknowledgement by other statements, each of which gets the transactions and what is left. */
  const acknowledgeBy = (...statements: string[]): Partial<Rules> => ({
    acknowledge: (client, xids, left) =>
      statements.map((text) => () => client.query(text, [xids, ...putValues(left)])),
  });

  test.each<[string, FocusName, Partial<Rules>]>([
    ['a position that is kept when a batch is given up', 'claims', { resets: false }],
    [
      'an acknowledgement of transactions of which a part was deleted',
      'claims',
      { applied: (targets) => targets.slice(0, 1) },
    ],
    [
      'an acknowledgement of everything up to a position',
      'claims',
      acknowledgeBy(
        `with ${PUT} delete from cache_invalidation.changes where xid <= (select max(xid) from unnest($1::xid8[]) as xid)`,
      ),
    ],
    [
      'what is left put into pending after the acknowledgement',
      'pending',
      acknowledgeBy(
        `with given as (select $2::text[], $3::text[], $4::float8[], $5::text[]) select ${ACKNOWLEDGE}`,
        `with ${PUT} select $1::text`,
      ),
    ],
    [
      'a merge that keeps the version',
      'pending',
      acknowledgeBy(
        `with ${PUT.replace('version = excluded.version', 'version = p.version')} select ${ACKNOWLEDGE}`,
      ),
    ],
    [
      'a confirmation that goes by the row, not by its version',
      'pending',
      {
        confirm: (client, read) =>
          client.query('delete from cache_invalidation.pending where id = any ($1)', [
            read.map(({ id }) => id),
          ]),
      },
    ],
    ['a backlog’s snapshot that is taken after the epoch was sent', 'backlog', { snapshotComesFirst: false }],
  ])('%s', { timeout }, (_, focus, wrong) => expectFound(focus, { ...RIGHT, ...wrong }));

  /** Name of the function, a piece of its text, and what takes its place. */
  test.each<[string, FocusName, string, string, string]>([
    [
      'a claim that moves past a running transaction',
      'claims',
      'claim',
      `pg_snapshot_xip(("position").seen)`,
      'pg_snapshot_xip(null)',
    ],
    [
      'a run that ends at the present, not where it began',
      'claims',
      'claim',
      'else row(run,',
      'else row(pg_current_snapshot(),',
    ],
    [
      'an older version that gives no wildcard of a later declaration',
      'declarations',
      'render',
      'later.made > part.made',
      'false',
    ],
    [
      'a declaration that does not wait for those who left nothing',
      'declarations',
      'bring_in_line',
      'v.id = wanted and (v.columns is null',
      'false and (v.columns is null',
    ],
    [
      'a declaration that does not invalidate its type',
      'declarations',
      'bring_in_line',
      'every_type or v.watch_id = any (added || renamed)',
      'false',
    ],
    [
      'parents that are not watched for their children',
      'joins',
      'imply',
      'array w.hops loop',
      'array w.hops[2:] loop',
    ],
    ['old keys that do not count', 'claims', 'target_query', `or c.change[1] = ''u''`, 'or false'],
  ])('%s', { timeout }, async (_, focus, name, piece, by) => {
    const [found] = await sessions.query<{ source: string }>(
      `select pg_get_functiondef(('cache_invalidation.' || $1)::regproc) as source`,
      [name],
    );
    const source = found?.source ?? '';
    expect(source).toContain(piece);
    await sessions.query(source.replace(piece, () => by));
    try {
      await expectFound(focus, RIGHT);
    } finally {
      await sessions.query(source);
    }
  });
});
