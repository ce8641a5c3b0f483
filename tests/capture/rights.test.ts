/**
 * Nobody's code runs with the rights of the schema's owner, and no writer suppresses capture: neither in the writer's transaction nor when the
 * worker claims, whatever the writer has created under the names that the engine's code uses, and whatever the owner of a type has made of it.
 */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

const WRITER = 'fencepost_test_writer';
let database: ClonedDatabase;
let owner: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  owner = new pg.Client({ connectionString: database.url });
  await owner.connect();
  const { hostname, port, pathname, username, password } = new URL(database.url);
  await owner.query(`do $$ begin create role ${WRITER} noinherit; exception when duplicate_object then null; end $$;
    grant all on schema public to ${WRITER};
    create extension postgres_fdw;
    create server loop foreign data wrapper postgres_fdw options (host '${hostname}', port '${port}', dbname '${pathname.slice(1)}');
    create user mapping for public server loop
      options (user '${username}', password '${decodeURIComponent(password)}', password_required 'false');
    grant usage on foreign server loop to ${WRITER}`);
  // The types belong to the writer, and run code where they can: a domain's CHECK, and casts.
  await owner.query(`set role ${WRITER};
    create function public.trap() returns boolean language plpgsql as 'begin raise warning ''ran as %'', current_user; return true; end';
    create domain public.label as text check (public.trap() or value is null);
    create domain public.number as integer check (public.trap() or value is null);
    create domain public.instant as timestamptz check (public.trap() or value is null);
    create domain public.amount as numeric check (public.trap() or value is null);
    create domain public.raw as bytea check (public.trap() or value is null);
    create type public.mood as enum ('good', 'bad');
    create function public.mood_text(public.mood) returns text language plpgsql as 'begin perform public.trap(); return ''forged''; end';
    create function public.mood_bytes(public.mood) returns bytea language plpgsql as 'begin perform public.trap(); return ''forged''; end';
    create function public.mood_true(public.mood) returns boolean language plpgsql as 'begin perform public.trap(); return true; end';
    create cast (public.mood as text) with function public.mood_text as implicit;
    create cast (public.mood as bytea) with function public.mood_bytes as implicit;
    create cast (public.mood as boolean) with function public.mood_true as assignment;
    create collation public.mine (provider = icu, locale = 'und');
    reset role;
    create table public.parents (id public.number primary key, user_id public.label);
    insert into public.parents values (1, 'u')`);
  for (const [name, kind, below] of tables) {
    await owner.query(`create table public.${name} (${columns}) ${kind}; ${below};
      grant insert, select, update, delete, truncate on all tables in schema public to ${WRITER};
      select cache_invalidation.watch('public.${name}', '${name}:{a}:{b}:{c}:{d}:{e}:{f}:{h}:{i}');
      select cache_invalidation.watch('public.${name}', '${name}-few:{c}', columns => '{b,c,h}');
      select cache_invalidation.watch('public.${name}', '${name}-user:{p.user_id}', join => 'public.parents p on p.id = row.g')`);
  }
});

afterAll(async () => {
  await owner?.query(`drop owned by ${WRITER} cascade`);
  await owner?.end();
  await database?.drop();
});

const columns = `a text collate public.mine, b public.label, c public.mood, d public.instant, e public.raw, f public.amount, g public.number,
  h boolean, i date`;
const foreign = `server loop options (schema_name 'public', table_name 'far')`;
/** Name, kind, what is below it, and the table that is written. */
const tables = [
  ['plain', '', '', 'plain'],
  [
    'parted',
    'partition by list (a)',
    `create table public.parted_o partition of public.parted for values in ('o')`,
    'parted',
  ],
  ['parent', '', 'create table public.child () inherits (public.parent)', 'child'],
  [
    'mixed',
    'partition by list (a)',
    `create table public.far (${columns}); create foreign table public.mixed_f partition of public.mixed for values in ('o') ${foreign}`,
    'mixed',
  ],
  [
    'heard',
    '',
    `create table public.far_heir (${columns});
     create foreign table public.heard_f () inherits (public.heard) server loop options (schema_name 'public', table_name 'far_heir')`,
    'heard_f',
  ],
] as const;

/** Every name in the capture functions, in the queries of claims, and in the functions that these call. */
async function names(): Promise<string[]> {
  const { rows } = await owner.query<{ name: string }>(`
    select distinct m.word[1] as name
    from (
      select p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), '') as code from pg_proc as p
      where p.pronamespace = 'cache_invalidation'::regnamespace
        and (p.prorettype = 'trigger'::regtype or p.proname ~ '^(ring|claim|render|run_target_query|acknowledge|segment|encode_)')
      union all
      select v.query from cache_invalidation.versions as v
    ) as t, regexp_matches(t.code, '[A-Za-z_][A-Za-z0-9_]*', 'g') as m(word)`);
  return rows.map(({ name }) => name);
}

const body = (result: string) => `language plpgsql as 'begin perform public.trap(); return ${result}; end'`;
const signatures = [
  `() returns text ${body('1')}`,
  `(text) returns text ${body('1')}`,
  `(bigint) returns boolean ${body('true')}`,
  `(integer) returns boolean ${body('true')}`,
  `(anyelement) returns anyelement ${body('$1')}`,
  `(text, integer) returns text ${body('1')}`,
  `(text, anyelement) returns text ${body('1')}`,
  `(record, record) returns boolean ${body('false')}`,
];
const operands = [
  'text',
  'bigint',
  'integer',
  'boolean',
  'text[]',
  'record',
  'xid8',
  'public.mood',
  'public.label',
];
const operators = ['=', '<>', '||', '|', '&', '~', '<', '>', '>=', '<='];

/**
 * The statements that set a trap for each name: functions of several signatures, and operators. Relations are in one schema and domains in
 * the other, because a relation has a type of its own name.
 */
function traps(words: readonly string[], relations: string, domains: string): string[] {
  const view = 'select pg_temp.run() as version, null::text[] as change, null::xid8 as xid, now() as at';
  return [
    `create or replace function pg_temp.run() returns integer language plpgsql as 'begin raise warning ''ran as %'', current_user; return 1; end'`,
    ...words.flatMap((word) => [
      `create view ${relations}."${word}" as ${view}`,
      `create domain ${domains}."${word}" as pg_catalog.text check (pg_temp.run() = 1)`,
      ...signatures.flatMap((signature) =>
        ['public', 'pg_temp'].map((schema) => `create function ${schema}."${word}"${signature}`),
      ),
    ]),
    ...operands.map(
      (type, index) =>
        `create function public.trap_operator_${index}(${type}, ${type}) returns boolean ${body('false')}`,
    ),
    ...operands.flatMap((type, index) =>
      operators.flatMap((operator) =>
        ['public', 'pg_temp'].map(
          (schema) =>
            `create operator ${schema}.${operator} (function = public.trap_operator_${index}, leftarg = ${type}, rightarg = ${type})`,
        ),
      ),
    ),
  ];
}

describe.each([
  { relations: 'pg_temp', domains: 'public' },
  { relations: 'public', domains: 'pg_temp' },
])('relations in $relations, types in $domains', ({ relations, domains }) => {
  let writer: pg.Client;
  let warnings: string[] = [];

  beforeAll(async () => {
    writer = new pg.Client({ connectionString: database.url });
    writer.on('notice', ({ severity, message = '' }) => {
      if (severity === 'WARNING' && message.startsWith('ran as')) warnings.push(message);
    });
    await writer.connect();
    await writer.query(`set role ${WRITER}`);
    // Some names cannot have a trap of each kind, and the second round finds those of the first.
    await Promise.allSettled(
      traps(await names(), relations, domains).map((statement) => writer.query(statement)),
    );
    // The writer's settings change the text of values, and how SQL is read.
    await writer.query(`reset role;
      set search_path = pg_temp, public, pg_catalog; set datestyle = 'SQL, DMY'; set timezone = 'Asia/Tokyo'; set bytea_output = 'escape';
      set standard_conforming_strings = off; set quote_all_identifiers = on; set extra_float_digits = -15`);
  });

  afterAll(async () => {
    // The next round has relations where this one has types. (Those of the tables stay, because they are needed.)
    await Promise.allSettled(
      (await names()).flatMap((word) =>
        ['view', 'domain'].map((kind) => owner.query(`drop ${kind} public."${word}"`)),
      ),
    );
    await writer?.end();
  });

  test('the traps are there, and work', async () => {
    const { rows } = await owner.query<{
      functions: number;
      relations: number;
      types: number;
      operators: number;
    }>(
      `select (select count(*)::int from pg_proc where proowner = $1::regrole) as functions,
        (select count(*)::int from pg_class where relowner = $1::regrole and relkind = 'v') as relations,
        (select count(*)::int from pg_type where typowner = $1::regrole and typtype = 'd') as types,
        (select count(*)::int from pg_operator where oprowner = $1::regrole) as operators`,
      [WRITER],
    );
    expect(rows[0]?.functions).toBeGreaterThan(500);
    expect(rows[0]?.relations).toBeGreaterThan(100);
    expect(rows[0]?.types).toBeGreaterThan(100);
    expect(rows[0]?.operators).toBeGreaterThan(50);
    warnings = [];
    await writer.query(`select * from ${relations}.changes; select 'x'::${domains}.text`);
    expect(warnings).toContain('ran as postgres');
  });

  test.each(tables.map(([name, , , written]) => ({ name, written })))(
    '$name: exact targets, and none of the writer’s code as the owner',
    async ({ name, written }) => {
      await owner.query('truncate cache_invalidation.changes');
      warnings = [];
      const row = (b: string) =>
        `'o', '${b}', 'good', '2026-01-01 00:00+00', '\\\\xff', 1.50, 1, true, '2026-01-02'`;
      await writer.query(`set role ${WRITER}; insert into public.${written} values (${row('first')})`);
      await writer.query(`update public.${name} set b = 'second'`);
      await writer.query(`delete from public.${name}; reset role`);
      const claim = async () => {
        // Another session claims usually. Here it is the writer's own, with all its traps and settings.
        const { rows } = await writer.query<{ targets: string[]; errors: string[] | null }>(
          'select targets, errors from cache_invalidation.claim()',
        );
        await owner.query('truncate cache_invalidation.changes');
        expect(rows[0]?.errors).toBeNull();
        return [...new Set(rows[0]?.targets)].sort();
      };
      const inWrites = new Set(warnings);
      warnings = [];
      const rest = 'good:2026-01-01T00%3A00%3A00Z:ff:1.5:true:2026-01-02';
      expect(await claim()).toEqual(
        [`${name}:o:first:${rest}`, `${name}:o:second:${rest}`, `${name}-few:good`, `${name}-user:u`].sort(),
      );
      await writer.query(`set role ${WRITER}; truncate public.${name}; reset role`);
      expect(await claim()).toEqual([`${name}-few:*`, `${name}-user:*`, `${name}:*`]);
      expect(warnings).toEqual([]);
      expect([...inWrites]).toEqual([`ran as ${WRITER}`]);
    },
  );
});
