/**
 * Segments in SQL and in TypeScript are the same bytes, over all of Unicode and for every type that both render; and no
 * two tuples share a key.
 */
import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { canonicalSegment, encodeSegment } from '../../supabase/functions/_shared/cache/protocol/keys.ts';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { anyText } from './any-text.ts';

let database: ClonedDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});

afterAll(async () => {
  await client?.end();
  await database?.drop();
});

const watched = new Set<string>();

/** The segments that rows with these values of a type give, in order: written by the trigger, made by the claim. */
async function inSql(values: readonly string[], type = 'text'): Promise<string[]> {
  if (!watched.has(type)) {
    watched.add(type);
    await client.query(`create table public.rendered_${type} (place integer, value ${type});
      select cache_invalidation.watch('public.rendered_${type}', 'rendered:{place}:{value}')`);
  }
  const segments: string[] = [];
  // as many as one transaction may name
  for (let from = 0; from < values.length; from += 1000) {
    await client.query('delete from cache_invalidation.changes');
    await client.query(
      `insert into public.rendered_${type} select place, v::${type} from unnest($1::text[]) with ordinality as u(v, place)`,
      [values.slice(from, from + 1000)],
    );
    const { rows } = await client.query<{ target: string }>('select target from cache_invalidation.outbox');
    const found = new Map(rows.map(({ target }) => [target.split(':')[1], target.split(':')[2] ?? '']));
    expect(found.size).toBe(rows.length);
    for (let place = 1; place <= Math.min(1000, values.length - from); place += 1) {
      segments.push(found.get(String(place)) ?? 'missing');
    }
  }
  return segments;
}

test('any text has the same segment in SQL and in TypeScript', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyText, { minLength: 50, maxLength: 50 }), async (values) => {
      expect(await inSql(values)).toEqual(values.map(encodeSegment));
    }),
    { numRuns: 100 },
  );
});

test('every single character has the same segment in SQL and in TypeScript', async () => {
  const points = Array.from({ length: 0x10ffff }, (_, index) => index + 1).filter(
    (point) => point < 0xd800 || point > 0xdfff,
  );
  // As many as a segment holds before it is hashed; the encoding looks at one character at a time.
  const values: string[] = [];
  for (let from = 0; from < points.length; from += 50) {
    values.push(String.fromCodePoint(...points.slice(from, from + 50)));
  }
  const segments = await inSql(values);
  const different = values.findIndex((text, index) => segments[index] !== encodeSegment(text));
  expect(different, `near U+${points[different * 50]?.toString(16)}`).toBe(-1);
  expect(segments.some((segment) => segment.startsWith('~'))).toBe(false);
});

test('the borders of the hash, in one-byte to four-byte characters', async () => {
  const values = ['a', 'é', '€', '😀', ':'].flatMap((text) => {
    const bytes = Buffer.byteLength(text);
    return [-1, 0, 1].map((offset) => text.repeat(Math.floor(200 / bytes) + offset));
  });
  expect(await inSql(values)).toEqual(values.map(encodeSegment));
});

test('two different tuples never share a key, and no key of a tuple is a pattern', async () => {
  const tuple = fc.tuple(anyText, anyText, anyText);
  await fc.assert(
    fc.asyncProperty(fc.array(tuple, { minLength: 20, maxLength: 20 }), async (tuples) => {
      // neighbours that would collide without encoding: separators moved from one segment into the next
      const all = tuples.flatMap(([a, b, c]) => [
        [a, b, c],
        [`${a}:${b}`, c, ''],
        [a, `${b}:${c}`, ''],
        [`${a}*`, b, c],
        [encodeSegment(a), b, c],
      ]);
      const distinct = new Map(all.map((one) => [JSON.stringify(one), one]));
      const keys = new Set<string>();
      for (const one of distinct.values()) {
        const key = `x:${(await Promise.resolve(one)).map(encodeSegment).join(':')}`;
        expect(keys.has(key), key).toBe(false);
        expect(key).toMatch(/^[A-Za-z0-9_.!'()%~:-]*$/);
        expect(key.split(':')).toHaveLength(4);
        keys.add(key);
      }
    }),
    { numRuns: 100 },
  );
});

test('uuids, integers, dates and instants are canonical alike', async () => {
  const micros = fc.integer({ min: 0, max: 999_999 });
  const seconds = fc.integer({ min: -62_135_596_800, max: 253_402_300_799 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.uuid().map((id) => (id.length % 2 ? id : id.toUpperCase())),
        { minLength: 5, maxLength: 5 },
      ),
      fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { minLength: 5, maxLength: 5 }),
      fc.array(fc.tuple(seconds, micros), { minLength: 20, maxLength: 20 }),
      async (uuids, integers, instants) => {
        expect(await inSql(uuids, 'uuid')).toEqual(
          uuids.map((id) => encodeSegment(canonicalSegment('uuid', id, 'id'))),
        );
        expect(await inSql(integers.map(String), 'bigint')).toEqual(
          integers.map((number) => encodeSegment(canonicalSegment('integer', number, 'number'))),
        );
        const texts = instants.map(
          ([second, fraction]) =>
            `${new Date(second * 1000).toISOString().slice(0, 19)}.${String(fraction).padStart(6, '0')}Z`,
        );
        await client.query(`set timezone = 'Pacific/Chatham'`);
        expect(await inSql(texts, 'timestamptz')).toEqual(
          texts.map((text) => encodeSegment(canonicalSegment('instant', text, 'instant'))),
        );
        const days = texts.map((text) => text.slice(0, 10));
        expect(await inSql(days, 'date')).toEqual(
          days.map((day) => encodeSegment(canonicalSegment('date', day, 'day'))),
        );
      },
    ),
    { numRuns: 100 },
  );
});

/** Decimal numbers as people and drivers write them: with a sign, with zeros at both ends, with an exponent. */
const decimal = fc
  .tuple(
    fc.constantFrom('', '-', '+'),
    fc.constantFrom('', '0', '000'),
    fc.bigInt({ min: 0n, max: 10n ** 40n }),
    fc.option(fc.stringMatching(/^[0-9]{1,30}0{0,3}$/)),
    fc.option(fc.tuple(fc.constantFrom('e', 'E'), fc.integer({ min: -250, max: 250 }))),
  )
  .map(([sign, zeros, whole, fraction, exponent]) =>
    [
      sign,
      zeros,
      whole,
      fraction === null ? '' : `.${fraction}`,
      exponent === null ? '' : exponent.join(''),
    ].join(''),
  );

test('numbers of type numeric are canonical alike, however they are written', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(decimal, fc.double({ noNaN: true, noDefaultInfinity: true })), {
        minLength: 30,
        maxLength: 30,
      }),
      async (values) => {
        const expected = values.map((number) => encodeSegment(canonicalSegment('numeric', number, 'number')));
        expect(await inSql(values.map(String), 'numeric')).toEqual(expected);
      },
    ),
    { numRuns: 100 },
  );
  expect(await inSql(['-0.000', '.5', '5.', '1e21'], 'numeric')).toEqual(
    ['-0.000', '.5', '5.', '1e21'].map((text) => canonicalSegment('numeric', text, 'number')),
  );
});

test('booleans are true and false, whatever the database calls them', async () => {
  expect(await inSql(['t', 'off', 'yes', '0'], 'boolean')).toEqual(
    [true, false, true, false].map((flag) => canonicalSegment('boolean', flag, 'flag')),
  );
});
