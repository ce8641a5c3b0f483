-- A name that means something else from now on: what was cached of it is invalidated, whichever of the two relations is watched.
\ir fencepost_preamble.psql

-- two tables that are loaded in turn
create table public.prices (code text, price integer);
create table public.prices_next (code text, price integer);
select cache_invalidation.watch('public.prices', 'price:{code}'), cache_invalidation.watch('public.prices_next', 'price:{code}');
select is(pg_temp.captured('alter table public.prices rename to prices_former; alter table public.prices_next rename to prices; alter table public.prices_former rename to prices_next'), array['- price:*'], 'both of two tables are watched, and exchange their names');
select is(pg_temp.problems(), '{}', 'no problem of it');

-- there and back
create table public.tariffs (code text);
select cache_invalidation.watch('public.tariffs', 'tariff:{code}');
select is(pg_temp.captured('alter table public.tariffs rename to tariffs_aside'), array['- tariff:*'], 'a plain rename: the type too');
create table public.tariffs (code text, price integer);
select is((pg_temp.problems())[1], 'error: the watch of public.tariffs_aside for ''tariff:{code}'' was declared when that was called public.tariffs, which is another table now', 'another table in its place');
select is(pg_temp.captured('drop table public.tariffs; alter table public.tariffs_aside rename to tariffs'), array['- tariff:*'], 'which goes: what was cached of it is invalidated');
select is(pg_temp.problems(), '{}', 'no problem of it');

-- columns: whatever a declaration is concerned by
create table public.fares (code text, code_next text, line text, price integer, price_next integer);
select cache_invalidation.watch('public.fares', 'fare:{code}'), cache_invalidation.watch('public.fares', 'line:{line}'), cache_invalidation.watch('public.fares', 'name:{line}', columns => '{line}');
select is(pg_temp.captured('alter table public.fares rename price to price_former; alter table public.fares rename price_next to price'), array['- fare:*', '- line:*'], 'columns of which no key is made');
select is(pg_temp.captured('alter table public.fares drop column price; alter table public.fares rename price_former to price'), array['- fare:*', '- line:*'], 'or one is dropped');
select is(pg_temp.captured('alter table public.fares drop column price; alter table public.fares add column price integer'), array['- fare:*', '- line:*'], 'and added again');
select is(pg_temp.captured('alter table public.fares rename line to route'), array['- fare:*', '- line:*', '- name:*'], 'one of which keys are made');
select is(pg_temp.captured('alter table public.fares rename code to code_former; alter table public.fares rename code_next to code'), array['- fare:*', '- line:*'], 'a column gives its name to another');
select is((pg_temp.problems())[1], 'error: the watch of public.fares for ''fare:{code_former}'' follows the column code_former, which was called code; another column is called that now', 'another column in its place');
select is(pg_temp.captured('alter table public.fares rename code to code_next; alter table public.fares rename code_former to code'), array['- fare:*', '- line:*'], 'and takes it back');
select is(pg_temp.captured('alter table public.fares drop column code; alter table public.fares add column code integer'), array['- fare:*', '- line:*'], 'a column that is dropped and added again in one transaction');
create type public.fare_type as (code text, price integer, price_next integer);
create table public.typed_fares of public.fare_type;
create table public.typed_parts of public.fare_type partition by list (code);
create table public.typed_part partition of public.typed_parts default;
select cache_invalidation.watch('public.typed_fares', 'typed:{code}'), cache_invalidation.watch('public.typed_part', 'part:{code}'), cache_invalidation.watch('public.typed_fares', 'code:{code}', columns => '{code}');
select is(pg_temp.captured('alter type public.fare_type rename attribute price to price_former cascade; alter type public.fare_type rename attribute price_next to price cascade'),
  array['- part:*', '- typed:*'], 'columns of typed tables, by their type');
select is(pg_temp.captured('alter type public.fare_type drop attribute price_former cascade'), array['- part:*', '- typed:*'], 'or dropped with an attribute');
select is(pg_temp.captured('alter type public.fare_type alter attribute price type text cascade'), array['- code:*', '- part:*', '- typed:*'], 'or rewritten');
select is(pg_temp.captured('alter table public.fares drop column code'), array['- fare:*', '- line:*'], 'a column that is dropped');
select is(pg_temp.captured('alter table public.fares add column code text default ''a'''), array['- fare:*'], 'and added again, with values');
select is(pg_temp.captured('alter table public.fares add column note text'), '{}', 'a column that nobody names');

-- joined tables
create table public.owners (id integer primary key, user_id text);
create table public.owners_next (id integer primary key, user_id text);
create table public.things (id integer primary key, owner_id integer);
select cache_invalidation.watch('public.things', 'user:{o.user_id}', join => 'public.owners o on o.id = row.owner_id'), cache_invalidation.watch('public.things', 'thing:{id}');
select is(pg_temp.captured('alter table public.owners drop column user_id; alter table public.owners add column user_id text'), array['- user:*'], 'a joined column that is dropped and added again');
select is(pg_temp.captured('alter table public.owners rename to owners_former; alter table public.owners_next rename to owners'), array['- user:*'], 'a joined table that gives its name to another');
select is(pg_temp.captured('alter table public.owners rename to owners_next; alter table public.owners_former rename to owners'), array['- user:*'], 'and takes it back');

-- schemas
create schema live create table stops (code text);
create schema next create table stops (code text);
select cache_invalidation.watch('live.stops', 'stop:{code}'), cache_invalidation.watch('next.stops', 'stop:{code}');
select is(pg_temp.captured('alter schema live rename to former; alter schema next rename to live; alter schema former rename to next'), array['- stop:*'], 'two schemas exchange their names');
select is(pg_temp.captured('alter table live.stops set schema public'), array['- stop:*'], 'a table goes to another schema');
select is(pg_temp.problems(), '{}', 'no problem of it');

-- what no event trigger sees: refresh() cannot know it
create function pg_temp.unseen(statement text, trigger text, mended_by text) returns text[] language plpgsql as $$
begin
  execute format('alter event trigger %I disable; %s', trigger, statement);
  statement := (pg_temp.captured(format('select cache_invalidation.%s()', mended_by)))::text;
  if not cache_invalidation.sees_ddl(trigger) then
    execute format('alter event trigger %I enable always', trigger);
  end if;
  return statement::text[];
end
$$;
create temporary table every as
  select array_agg(distinct '- ' || cache_invalidation.type_wildcard(target) order by '- ' || cache_invalidation.type_wildcard(target)) as types from cache_invalidation.watches;
select is(pg_temp.unseen(s.statement, s.trigger, 'refresh'), types, s.trigger || ': ' || s.statement)
from every, (values
  ('fencepost_rewrite', 'alter table public.prices alter column price type bigint using price * 100'),
  ('fencepost_ddl', 'alter table public.prices rename to prices_former; alter table public.prices_next rename to prices; alter table public.prices_former rename to prices_next'),
  ('fencepost_ddl', 'alter table public.fares rename code to code_former; alter table public.fares rename code_former to code')
) as s(trigger, statement);
select is(pg_temp.unseen('alter table public.prices alter column price type integer using 1', 'fencepost_rewrite', 'create_event_triggers'), types, 'nor can refresh() when create_event_triggers() came first') from every;
select is(pg_temp.captured('select cache_invalidation.refresh()'), '{}', 'refresh() where DDL is seen: nothing');
select is(pg_temp.problems(), '{}', 'no problem of any');

-- a view that has the former name: of the watched table, and of another
create table public.based (id integer, code text);
select cache_invalidation.watch('public.based', 'based:{code}');
alter table public.based rename to base;
create view public.based as select * from public.base;
select is(array(select problem from cache_invalidation.problems() where problem like '%base%'), '{}', 'a view of the renamed table with its former name is no problem');
select is(pg_temp.captured($$insert into public.based values (1, 'a')$$), array['i based:a'], 'writes through it are captured');
create table public.elsewhere (id integer, code text);
create or replace view public.based as select * from public.elsewhere;
select is(array(select problem from cache_invalidation.problems() where problem like '%base%'),
  array['the watch of public.base for ''based:{code}'' was declared when that was called public.based, which is another table now'], 'a view of another table is one');

select * from finish();
rollback;
