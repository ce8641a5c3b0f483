/**
 * Copies that pg_dump makes: of the schema alone, of everything, of the data alone, without owners, with triggers disabled. problems() names
 * what each lacks, its remedies end it, no copy loses writes in silence, and no identity is used twice.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { findPlpgsqlCheck } from './debian-extensions.ts';
import { type DebianServer, startDebianServer } from './debian-server.ts';

const debian = await findPlpgsqlCheck();
const programs = debian.path ?? '';

describe.skipIf(debian.path === undefined)(`pg_dump ${debian.reason}`, () => {
  let server: DebianServer;
  let copy: pg.Client;

  beforeAll(async () => {
    server = await startDebianServer(programs);
    await server.client.query('create role keeper login createdb');
    // What the source has that its copies must not take for their own: dropped columns, other numbers, a declaration of every kind.
    await server.client.query(`create table public.owners (gone integer, id integer primary key, user_id text);
      alter table public.owners drop column gone;
      create table public.things (gone integer, id integer primary key, org_id text, owner_id integer references public.owners, note text);
      alter table public.things drop column gone;
      create table public.parted (id integer, org_id text) partition by list (id);
      create table public.parted_1 partition of public.parted for values in (1);
      select cache_invalidation.watch('public.things', 'thing:{org_id}');
      select cache_invalidation.watch('public.things', 'note:{id}', columns => '{note}', min_interval => '1 s');
      select cache_invalidation.watch('public.things', 'user:{o.user_id}', join => 'public.owners o on o.id = row.owner_id');
      select cache_invalidation.watch('public.parted', 'parted:{org_id}');
      insert into public.owners values (1, 'u');
      insert into public.things values (1, 'a', 1, 'x');
      insert into public.parted values (1, 'p')`);
  });

  afterAll(async () => {
    await server?.stop();
  });

  const connection = ['--host=127.0.0.1', '--username=postgres'];
  const dump = async (...options: string[]) =>
    (
      await execa(
        join(programs, 'bin/pg_dump'),
        [...connection, `--port=${server.port}`, ...options, 'postgres'],
        { maxBuffer: 50_000_000 },
      )
    ).stdout;

  /** What `supabase db dump` would run in its container, by its own word, run here. */
  const supabaseDump = async (...options: string[]) => {
    const url = `postgresql://postgres@127.0.0.1:${server.port}/postgres?sslmode=disable`;
    const { stdout: script } = await execa(
      'node_modules/.bin/supabase',
      ['db', 'dump', '--dry-run', `--remote=${url}`, ...options],
      { cwd: fileURLToPath(new URL('../..', import.meta.url)), stdin: 'ignore' },
    );
    expect(script).toContain('pg_dump');
    const env = { PATH: `${join(programs, 'bin')}:${process.env.PATH}` };
    return (await execa('bash', { input: script, env })).stdout;
  };

  /** Restores a dump; returns the errors of its statements, which psql goes on after. */
  const restore = async (script: string, user = 'postgres', ...options: string[]) => {
    const { stderr } = await execa(
      join(programs, 'bin/psql'),
      [
        '--host=127.0.0.1',
        `--port=${server.port}`,
        `--username=${user}`,
        '--no-psqlrc',
        '--quiet',
        'copy',
        ...options,
      ],
      { input: script, reject: false },
    );
    return stderr.split('\n').flatMap((line) => /ERROR: {2}(.*)/.exec(line)?.[1] ?? []);
  };

  beforeEach(async () => {
    await server.client.query('create database copy template template0');
    copy = new pg.Client({ host: '127.0.0.1', port: server.port, user: 'postgres', database: 'copy' });
    await copy.connect();
  });

  afterEach(async () => {
    await copy?.end();
    await server.client.query('drop database copy with (force)');
  });

  async function captured(statement: string): Promise<string[]> {
    await copy.query('truncate cache_invalidation.changes');
    await copy.query(statement);
    const { rows } = await copy.query<{ target: string }>(
      'select distinct target from cache_invalidation.outbox order by target',
    );
    return rows.map(({ target }) => target);
  }

  async function problems(): Promise<{ severity: string; problem: string; remedy: string }[]> {
    return (await copy.query('select severity, problem, remedy from cache_invalidation.problems()')).rows;
  }

  const write = `insert into public.things values (2, 'b', 1, 'y'); insert into public.parted values (1, 'q')`;
  const exact = ['note:2', 'parted:q', 'thing:b', 'user:u'];
  const declare = `select cache_invalidation.watch('public.things', 'thing:{org_id}');
    select cache_invalidation.watch('public.things', 'note:{id}', columns => '{note}', min_interval => '1 s');
    select cache_invalidation.watch('public.things', 'user:{o.user_id}', join => 'public.owners o on o.id = row.owner_id');
    select cache_invalidation.watch('public.parted', 'parted:{org_id}')`;

  test('the schema alone: triggers go on and invalidate everything; watch() takes none of theirs', async () => {
    expect(await restore(await dump('--schema-only'))).toEqual([]);
    await copy.query(`insert into public.owners values (1, 'u')`);
    expect(await problems()).toEqual([
      {
        severity: 'warning',
        problem: expect.stringMatching(
          'there are capture functions without a declaration, .* on the tables public.owners, public.parted, public.parted_1, public.things$',
        ),
        remedy: expect.stringContaining('watch() these tables again, then: drop function '),
      },
      {
        severity: 'warning',
        problem: expect.stringMatching('^the epoch is missing'),
        remedy: expect.any(String),
      },
    ]);
    expect(await captured(write)).toEqual(['*']);
    const triggers = `select array_agg(concat_ws(' ', t.tgname, t.tgrelid::regclass, t.tgenabled, md5(p.prosrc)) order by 1) as made
      from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid where p.pronamespace = 'cache_invalidation'::regnamespace`;
    const { rows: former } = await copy.query<{ made: string[] }>(triggers);
    await copy.query(declare);
    const { rows: now } = await copy.query<{ made: string[] }>(triggers);
    expect(now[0]?.made).toEqual(expect.arrayContaining(former[0]?.made ?? ['none']));
    const { remedy } = (await problems())[0] ?? { remedy: '' };
    await copy.query(`${remedy.replace(/^.*then: /, '')} select cache_invalidation.new_epoch()`);
    expect(await problems()).toEqual([]);
    await copy.query('delete from public.things');
    expect(await captured(write)).toEqual(exact);
  });

  test('supabase db dump, the schema alone: triggers without declarations, and no event triggers', async () => {
    expect(await restore(await supabaseDump())).toEqual([]);
    expect((await problems()).map(({ severity, problem }) => `${severity}: ${problem}`)).toEqual([
      expect.stringMatching(/^warning: there are capture functions without a declaration/),
      expect.stringMatching(/^warning: the epoch is missing/),
      expect.stringMatching(/^notice: there are no event triggers/),
    ]);
    await copy.query(`insert into public.owners values (1, 'u')`);
    expect(await captured(write)).toEqual(['*']);
    await copy.query('select cache_invalidation.create_event_triggers(), cache_invalidation.new_epoch()');
    await copy.query(declare);
    await copy.query((await problems())[0]?.remedy.replace(/^.*then: /, '') ?? '');
    expect(await problems()).toEqual([]);
    await copy.query('delete from public.things');
    expect(await captured(write)).toEqual(exact);
  });

  test('supabase db dump, schema and data in one transaction, as Supabase restores a project', async () => {
    const script = `${await supabaseDump()}\n${await supabaseDump('--data-only')}`;
    expect(script).toContain('SET session_replication_role = replica');
    expect(await restore(script, 'postgres', '--single-transaction', '--set=ON_ERROR_STOP=1')).toEqual([]);
    expect((await problems()).map(({ severity, problem }) => `${severity}: ${problem}`)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^warning: .*restored from a dump/),
        expect.stringMatching(/^notice: there are no event triggers/),
      ]),
    );
    expect(await captured(write)).toEqual(['note:*', 'parted:*', 'thing:*', 'user:*']);
    await copy.query(`truncate cache_invalidation.changes, cache_invalidation.pending;
      select cache_invalidation.create_event_triggers(), cache_invalidation.refresh(), cache_invalidation.invalidate('*')`);
    expect(await problems()).toEqual([]);
    await copy.query('delete from public.things where id = 2');
    expect(await captured(write)).toEqual(exact);
  });

  test('everything: it widens until refresh(), as problems() says', async () => {
    expect(await restore(await dump())).toEqual([]);
    expect((await problems()).map(({ severity, problem }) => `${severity}: ${problem}`)).toContainEqual(
      expect.stringMatching(/^warning: .*restored from a dump/),
    );
    expect(await captured(write)).toEqual(['note:*', 'parted:*', 'thing:*', 'user:*']);
    // A rename before refresh() is not taken for another column, whose number it may have.
    await copy.query('alter table public.things rename column org_id to organisation');
    expect(await captured('update public.things set id = 3 where id = 2')).toContain('thing:*');
    await copy.query(`alter table public.things rename column organisation to org_id;
      truncate cache_invalidation.changes, cache_invalidation.pending;
      select cache_invalidation.create_event_triggers(), cache_invalidation.refresh(), cache_invalidation.invalidate('*')`);
    expect(await problems()).toEqual([]);
    expect(await captured('update public.things set org_id = org_id where id = 3')).toEqual([
      'thing:b',
      'user:u',
    ]);
    const { rows } = await copy.query(
      `select count(*)::int as watches from cache_invalidation.watches where min_interval = '1 s' and columns = '{note}'`,
    );
    expect(rows).toEqual([{ watches: 1 }]);
  });

  test('everything, while changes wait: problems() says so', async () => {
    const restored = (await dump('--inserts')).replace(
      /INSERT INTO cache_invalidation.changes VALUES \('\d+'/g,
      `INSERT INTO cache_invalidation.changes VALUES ('90000000000'`,
    );
    expect(await restore(restored)).toEqual([]);
    const rows = await problems();
    const found = rows.find(({ problem }) => problem.includes("changes of another server's transactions"));
    expect(found?.severity).toBe('error');
    await copy.query(`${found?.remedy} select cache_invalidation.refresh()`);
    expect(await problems()).toEqual([]);
  });

  test('everything, without owners, by a role that is no superuser: event triggers are lost, and named', async () => {
    await copy.query('alter database copy owner to keeper; alter schema public owner to keeper');
    const errors = await restore(await dump('--no-owner', '--no-privileges'), 'keeper');
    expect(errors).toEqual(
      expect.arrayContaining([expect.stringContaining('permission denied to create event trigger')]),
    );
    expect(errors.filter((error) => !/event trigger/.test(error))).toEqual([]);
    const keeper = new pg.Client({ host: '127.0.0.1', port: server.port, user: 'keeper', database: 'copy' });
    await keeper.connect();
    await keeper.query('select cache_invalidation.create_event_triggers(), cache_invalidation.refresh()');
    await keeper.end();
    expect(await problems()).toEqual([
      {
        severity: 'notice',
        problem: expect.stringContaining('there are no event triggers'),
        remedy: expect.any(String),
      },
    ]);
    expect(await captured(write)).toEqual(exact);
    await copy.query('select cache_invalidation.create_event_triggers()');
    expect(await problems()).toEqual([]);
  });

  describe('the data alone, into a migrated database', () => {
    beforeEach(async () => {
      const schema = await dump('--schema-only', '--schema=public');
      await restore(`${await dump('--schema-only', '--schema=cache_invalidation')}
        ${schema.replace(/^CREATE TRIGGER.*;$|^ALTER TABLE .* ENABLE ALWAYS TRIGGER .*;$/gm, '')}`);
      await copy.query(`do $$ declare f regprocedure; begin
          for f in select oid from pg_proc where pronamespace = 'cache_invalidation'::regnamespace and prorettype = 'trigger'::regtype loop
            execute format('drop function %s cascade', f);
          end loop; end $$;
        select cache_invalidation.new_epoch(), cache_invalidation.create_event_triggers(); ${declare}`);
      expect(await problems()).toEqual([]);
      await copy.query('truncate cache_invalidation.changes');
    });

    test('without our schema: the rows are captured', async () => {
      expect(await restore(await dump('--data-only', '--exclude-schema=cache_invalidation'))).toEqual([]);
      const { rows } = await copy.query<{ target: string }>(
        'select distinct target from cache_invalidation.outbox order by target',
      );
      expect(rows.map(({ target }) => target)).toEqual(['note:1', 'parted:p', 'thing:a', 'user:u']);
      expect(await problems()).toEqual([]);
    });

    test('with triggers disabled: an error until refresh(), which invalidates', async () => {
      const data = await dump('--data-only', '--disable-triggers', '--exclude-schema=cache_invalidation');
      expect(await restore(data)).toEqual([]);
      expect((await problems()).map(({ severity, problem }) => `${severity}: ${problem}`)).toEqual([
        expect.stringMatching(/^error: triggers are missing or disabled: /),
        expect.stringMatching(/^error: triggers are missing or disabled: /),
        expect.stringMatching(/^error: triggers are missing or disabled: /),
      ]);
      expect(await captured('select cache_invalidation.refresh()')).toEqual([
        'note:*',
        'parted:*',
        'thing:*',
        'user:*',
      ]);
      expect(await problems()).toEqual([]);
      expect(await captured(write)).toEqual(exact);
    });

    test('with our schema: rows that are there already are refused, and refresh() makes one whole of it', async () => {
      const errors = await restore(await dump('--data-only'));
      expect(errors).toEqual(expect.arrayContaining([expect.stringContaining('duplicate key value')]));
      await copy.query('select cache_invalidation.refresh()');
      expect((await problems()).filter(({ severity }) => severity === 'error')).toEqual([]);
      await copy.query('truncate cache_invalidation.changes; select cache_invalidation.refresh()');
      expect(await problems()).toEqual([]);
      expect(await captured(write)).toEqual(exact);
    });
  });
});
