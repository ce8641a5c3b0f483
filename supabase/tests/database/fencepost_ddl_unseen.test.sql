-- DDL that is easily missed: under session_replication_role = replica, and by statements that are not called ALTER TABLE.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

-- What the second statement writes to the outbox, after the first (and what the first does, if there is no second).
create function pg_temp.captured(statement text, afterwards text default null) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.outbox;
  execute statement;
  if afterwards is not null then
    set local session_replication_role = origin;
    delete from cache_invalidation.outbox;
    execute afterwards;
  end if;
  return array(select coalesce(o.op::text, '-') || ' ' || o.target || coalesce(' ' || o.error, '') from cache_invalidation.outbox as o order by o.target, o.op);
end
$$;
create function pg_temp.answer(statement text) returns text language plpgsql as $$
declare
  hint text;
begin
  execute statement;
  return 'ok';
exception
  when others then
    get stacked diagnostics hint = pg_exception_hint;
    return sqlstate || ' ' || sqlerrm || ' | ' || hint;
end
$$;

create table public.ev (id integer, org_id text, v integer) partition by range (id);
select cache_invalidation.watch('public.ev', 'ev:{org_id}');

-- session_replication_role
set local session_replication_role = replica;
select is(pg_temp.captured('create table public.ev2 partition of public.ev for values from (20) to (30)', 'truncate public.ev2'), array['t ev:*'], 'replica: a new partition');
set local session_replication_role = replica;
select is(pg_temp.captured('alter table public.ev alter column v type bigint using v * 100'), array['- ev:*'], 'replica: rewritten rows');
select is(pg_temp.captured('alter table public.ev rename column org_id to organisation', $$insert into public.ev values (20, 'a')$$), array['i ev:a'], 'replica: a renamed column');
set local session_replication_role = replica;
select matches(pg_temp.answer('alter table public.ev drop column organisation'), '^42703 .*needs what this statement takes away', 'replica: a needed column');
set local session_replication_role = origin;
select is((select array_agg(problem) from cache_invalidation.problems()), null, 'in good order');
alter event trigger fencepost_drop enable;
alter event trigger fencepost_rewrite disable;
select results_eq('select watch_id, problem, remedy from cache_invalidation.problems()', $$values (null::integer,
  'DDL is not seen always, because these event triggers are disabled, or are so under session_replication_role = replica: fencepost_drop, fencepost_rewrite',
  'alter event trigger fencepost_drop enable always; alter event trigger fencepost_rewrite enable always;')$$, 'event triggers that do not fire always are named');
do $$ begin execute (select remedy from cache_invalidation.problems()); end $$;
select is((select array_agg(problem) from cache_invalidation.problems()), null, 'and the remedy settles it');

-- statements that are not called ALTER TABLE or CREATE TABLE
select is(pg_temp.captured('create schema arch create table ev1 partition of public.ev for values from (0) to (10)', 'truncate arch.ev1'), array['t ev:*'], 'CREATE SCHEMA with a partition');
create table public.plain (id integer, org_id text);
select cache_invalidation.watch('public.plain', 'plain:{org_id}');
select is(pg_temp.captured('alter view public.plain rename column org_id to by_view', $$insert into public.plain values (1, 'a')$$), array['i plain:a'], 'ALTER VIEW');
select is(pg_temp.captured('alter materialized view public.plain rename column by_view to by_copy', 'update public.plain set id = 2'), array['u plain:a'], 'ALTER MATERIALIZED VIEW');
select is(pg_temp.captured('alter foreign table public.plain rename column by_copy to by_far', 'update public.plain set id = 3'), array['u plain:a'], 'ALTER FOREIGN TABLE');
select is(pg_temp.captured('alter type public.plain rename attribute by_far to by_type', 'update public.plain set id = 4'), array['u plain:a'], 'ALTER TYPE of a row');
create table public.owners (id integer, user_id text);
create function public.same(integer, integer) returns boolean language sql immutable return $1 = $2;
select cache_invalidation.watch('public.plain', 'owner:{o.user_id}', join => 'public.owners o on public.same(o.id, row.id)');
select matches(pg_temp.answer('alter index public.owners rename to possessors'), '^42P01 the watch of public.plain for .*needs what this statement takes away', 'ALTER INDEX of a joined table');
select matches(pg_temp.answer('alter view public.owners rename column user_id to name'), '^42703 the watch of public.plain for', 'ALTER VIEW of a joined table');
select matches(pg_temp.answer('alter function public.same(integer, integer) rename to equal'), '^42883 the watch of public.plain for .*\| First: select cache_invalidation.unwatch', 'ALTER FUNCTION of a join');
select matches(pg_temp.answer('drop function public.same(integer, integer)'), '^42883 the watch of public.plain for', 'DROP FUNCTION of a join');
create extension if not exists hstore with schema extensions;
create table extensions.far_owners (id integer, user_id text);
alter extension hstore add table extensions.far_owners;
select cache_invalidation.watch('public.plain', 'far:{o.user_id}', join => 'extensions.far_owners o on o.id = row.id');
select matches(pg_temp.answer('alter extension hstore set schema arch'), '^42P01 the watch of public.plain for', 'ALTER EXTENSION that moves a joined table');
select cache_invalidation.unwatch('public.plain');

-- typed tables
create type public.shape as (id integer, org_id text, note text);
create table public.typed of public.shape;
select cache_invalidation.watch('public.typed', 'typed:{org_id}');
select is(pg_temp.captured('alter type public.shape rename attribute org_id to organisation cascade', $$insert into public.typed values (1, 'a')$$), array['i typed:a'], 'a typed table follows');
select matches(pg_temp.answer('alter type public.shape drop attribute organisation cascade'), '^42703 the watch of public.typed for ''typed:\{organisation\}'' needs what this statement takes away: the column organisation \| First', 'a needed attribute cannot be dropped');
select is(pg_temp.answer('alter type public.shape drop attribute note cascade'), 'ok', 'another can');
select matches(pg_temp.answer('alter type public.shape alter attribute organisation type jsonb cascade'), '^(0A000|42804)', 'nor can it become jsonb');

-- a column that goes with what it is made of
create function public.keyed(integer) returns text immutable language sql return $1::text;
create collation public.mine (provider = icu, locale = 'und');
create table public.made (id integer, key text generated always as (public.keyed(id)) stored, other text collate public.mine);
select cache_invalidation.watch('public.made', 'made:{key}');
select cache_invalidation.watch('public.made', 'other:{other}');
select matches(pg_temp.answer('drop function public.keyed(integer) cascade'), '^42703 the watch of public.made for ''made:\{key\}'' needs what this statement takes away: the column key', 'DROP FUNCTION CASCADE');
select matches(pg_temp.answer('drop collation public.mine cascade'), '^42703 the watch of public.made for ''other:\{other\}'' needs', 'DROP COLLATION CASCADE');

-- what was removed without an event trigger makes no DDL fail
select cache_invalidation.watch('public.plain', 'late:{by_type}');
alter event trigger fencepost_ddl disable;
alter event trigger fencepost_drop disable;
drop function public.keyed(integer) cascade;
alter table public.plain alter column by_type type jsonb using '1';
create table public.sound (id integer, org_id text);
select cache_invalidation.watch('public.sound', 'sound:{org_id}');
alter table public.sound rename column org_id to organisation;
alter event trigger fencepost_ddl enable always;
alter event trigger fencepost_drop enable always;
select is(pg_temp.answer('alter table public.made add column more text'), 'ok', 'a column is gone: ALTER TABLE');
select is(pg_temp.captured('insert into public.made values (1)'), array['i made:*', 'i other:*'], 'it widens');
select is(pg_temp.answer('alter table public.made drop column more'), 'ok', 'a column is gone: DROP COLUMN of another');
select is(pg_temp.answer('create index on public.made (id)'), 'ok', 'a column is gone: CREATE INDEX');
select is((select array_agg(problem) from cache_invalidation.problems() where problem like '%public.made%'),
  array['writes to public.made invalidate the whole type of made:{key}: the table public.made has no column key'], 'problems() names it');
select cache_invalidation.watch('public.plain', 'again:{id}');
select matches(pg_temp.answer('alter table public.plain add column more text'), '^0A000 .*If it was taken away before: select cache_invalidation.refresh\(\)', 'a type that is not seen to be another''s fault is refused once, with the way out');
select is(cache_invalidation.refresh(), (select count(*)::integer from cache_invalidation.watches), 'refresh() fails for none');
select is(pg_temp.captured($$insert into public.sound values (1, 'a')$$), array['i sound:a'], 'and brings the others in line');
select is(pg_temp.captured('insert into public.plain values (1)'), array['i again:1', 'i late:*'], 'what cannot be served widens');
select is(pg_temp.answer('alter table public.plain add column more text'), 'ok', 'and stops no other DDL');
select is(pg_temp.answer('alter table public.plain alter column by_type type text using ''a'''), 'ok', 'until its column can be rendered');
select is(pg_temp.captured('update public.plain set id = 2 where id = 1'), array['u again:1', 'u again:2', 'u late:a'], 'when it is exact again');

select * from finish();
rollback;
