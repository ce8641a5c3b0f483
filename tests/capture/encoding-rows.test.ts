/** Rows of hostile values: what a trigger stores and a claim reads is the key that a reader builds. */
import fc from 'fast-check';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { encodeSegment, keyBuilders } from '../../supabase/functions/_shared/cache/protocol/keys.ts';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { anyText } from './any-text.ts';
import { connect } from './sessions.ts';

let database: ClonedDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  client = await connect(database.url);
});

afterAll(async () => {
  await client?.end();
  await database?.drop();
});

/** What could be taken for the marks and quotes of a stored change, or for its NULL. */
const stored = fc.constantFrom(
  null,
  '',
  'NULL',
  "'NULL'",
  'E',
  "E'",
  "'",
  "''",
  '\\',
  "\\'",
  '\u0001',
  '\u00010',
  "\u0001'",
  "'\u0001'",
  "'\u0001E'\\",
  '\u0001NULL',
  '\u0001u\u0001',
  "x'\u00012\u0001'y",
  '\\x01',
  '%L',
  '%1$s',
);
const cell = fc.oneof(
  { weight: 1, arbitrary: anyText },
  { weight: 2, arbitrary: stored },
  {
    weight: 2,
    arbitrary: fc
      .array(
        stored.filter((text) => text !== null),
        { maxLength: 4 },
      )
      .map((parts) => parts.join('')),
  },
);

test('what a trigger writes for hostile rows is what a reader builds, for a whole tuple', async () => {
  await client.query(`create table public.hostile (a text, b text, c text);
    select cache_invalidation.watch('public.hostile', 'hostile:{a}:{b}:{c}');
    select cache_invalidation.watch('public.hostile', 'last:{c}', columns => '{b}')`);
  const column = (tuples: readonly (readonly (string | null)[])[], index: number) =>
    tuples.map((tuple) => tuple[index] ?? null);
  // a NULL widens to the group before it
  const key = (type: string, parts: readonly (string | null)[]) => {
    const known = parts.slice(0, parts.includes(null) ? parts.indexOf(null) : parts.length);
    const segments = known.map((part) => encodeSegment(part ?? ''));
    return [type, ...segments, ...(known.length < parts.length ? ['*'] : [])].join(':');
  };
  const targets = async () => {
    const { rows } = await client.query<{ target: string }>('select target from cache_invalidation.outbox');
    await client.query('delete from cache_invalidation.changes');
    expect(new Set(rows.map((row) => row.target)).size).toBe(rows.length);
    return rows.map((row) => row.target).sort();
  };
  const sorted = (keys: readonly string[]) => [...new Set(keys)].sort();
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(cell, cell, cell), { minLength: 1, maxLength: 30 }),
      async (tuples) => {
        await client.query('truncate public.hostile');
        await client.query('delete from cache_invalidation.changes');
        await client.query(
          'insert into public.hostile select * from unnest($1::text[], $2::text[], $3::text[])',
          [column(tuples, 0), column(tuples, 1), column(tuples, 2)],
        );
        expect(await targets()).toEqual(
          sorted(tuples.flatMap(([a, b, c]) => [key('hostile', [a, b, c]), key('last', [c])])),
        );
        await client.query('update public.hostile set a = b, b = a');
        expect(await targets()).toEqual(
          sorted(
            tuples.flatMap(([a, b, c]) => [
              key('hostile', [a, b, c]),
              key('hostile', [b, a, c]),
              ...(a === b ? [] : [key('last', [c])]),
            ]),
          ),
        );
        await client.query('delete from public.hostile');
        expect(await targets()).toEqual(
          sorted(tuples.flatMap(([a, b, c]) => [key('hostile', [b, a, c]), key('last', [c])])),
        );
      },
    ),
    { numRuns: 60 },
  );
});

test('placeholders in camel case and with digits name columns that need quoting in SQL', async () => {
  const keys = keyBuilders({
    line: {
      key: 'line:{orgId}:{line1}:{isActive:boolean}:{netPrice:numeric}',
      entity: 2,
      ttl: 60,
    },
  });
  await client.query(`
    create table public."orderLines" ("orgId" text, line1 text, "isActive" boolean, "netPrice" numeric(12, 4), note text);
    select cache_invalidation.watch('public."orderLines"', 'line:{orgId}:{line1}:{isActive}:{netPrice}',
      columns => array['netPrice']);
    create unique index on public."orderLines" (line1);
    create table public."orderNotes" (id int, "lineOf" text);
    select cache_invalidation.watch('public."orderNotes"', 'notes:{l.orgId}:{lineOf}',
      join => 'public."orderLines" l on l.line1 = row."lineOf"');
    delete from cache_invalidation.changes`);
  const targets = async () => {
    const { rows } = await client.query<{ target: string }>('select target from cache_invalidation.outbox');
    await client.query('delete from cache_invalidation.changes');
    return rows.map(({ target }) => target).sort();
  };
  await client.query(`insert into public."orderLines" values ('Acme:1', 'a', true, 1.5000, null)`);
  // a parent's change names what its children's targets have of it
  expect(await targets()).toEqual([keys.line('Acme:1', 'a', true, 1.5), 'notes:Acme%3A1:*']);
  await client.query(`update public."orderLines" set "orgId" = 'b'`);
  expect(await targets()).toEqual([
    keys.line('Acme:1', 'a', true, '1.50'),
    keys.line('b', 'a', 'true', 1.5),
    'notes:Acme%3A1:*',
    'notes:b:*',
  ]);
  await client.query(`update public."orderLines" set note = 'x'`);
  expect(await targets()).toEqual([]);
  await client.query(`insert into public."orderNotes" values (1, 'a')`);
  expect(await targets()).toEqual(['notes:b:a']);
  const { rows } = await client.query(`select problem from cache_invalidation.problems()`);
  expect(rows).toEqual([]);
});
