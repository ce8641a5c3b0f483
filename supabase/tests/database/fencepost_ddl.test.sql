-- Tables that change under their watches: with event triggers, and without.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

create function pg_temp.captured(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.outbox;
  execute statement;
  return array(select o.op::text || ' ' || o.target || coalesce(' ' || o.error, '') from cache_invalidation.outbox as o order by o.target, o.op);
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

create table public.moving (id integer primary key, gone integer, org_id text, used integer, extra text);
alter table public.moving drop column gone;
select cache_invalidation.watch('public.moving', 'moving:{org_id}:*', columns => array['used']);
create table public.parents (id integer primary key, user_id text);
create table public.children (id integer primary key, parent_id integer);
select cache_invalidation.watch('public.children', 'user:{p.user_id}:list', join => 'public.parents p on p.id = row.parent_id');
insert into parents values (1, 'u');
insert into moving values (1, 'a', 0, 'x');

-- with event triggers
select is(pg_temp.answer('alter table moving rename column org_id to organisation'), 'ok', 'a watched column can be renamed');
select is((select target from cache_invalidation.watches where rel = 'public.moving'::regclass), 'moving:{organisation}:*', 'and the watch follows');
select is(pg_temp.answer('alter table moving rename column used to spent'), 'ok', 'a column of columns can be renamed');
select is((select columns from cache_invalidation.watches where rel = 'public.moving'::regclass), array['spent'], 'and the watch follows');
select is(pg_temp.captured('update moving set spent = 1'), array['u moving:a:*'], 'writes are exact after the renames');
select is(pg_temp.captured('update moving set extra = ''y'''), '{}', 'and as narrow as before');
select matches(pg_temp.answer('alter table moving drop column organisation'), '^42703 .*needs what this statement takes away: .*\| First: select cache_invalidation.unwatch\(''public.moving'', ''moving:\{organisation\}:\*''\)', 'a needed column cannot be dropped');
select matches(pg_temp.answer('alter table moving drop column organisation cascade'), '^42703 ', 'not even with CASCADE');
select matches(pg_temp.answer('alter table moving drop column spent'), '^42703 ', 'nor can a column of columns');
select is(pg_temp.answer('alter table moving drop column extra'), 'ok', 'another column can');
select is(pg_temp.answer('alter table moving alter column organisation type varchar(30)'), 'ok', 'a type that can be rendered');
select is(pg_temp.captured('update moving set spent = 2'), array['u moving:a:*'], 'writes are exact after the change of type');
select is(pg_temp.answer('alter table moving alter column organisation type uuid using ''0a0b0c0d-0000-4000-8000-00000000000f''::uuid'), 'ok', 'another type');
select is(pg_temp.captured('update moving set spent = 3'), array['u moving:0a0b0c0d-0000-4000-8000-00000000000f:*'], 'is rendered its own way');
select matches(pg_temp.answer('alter table moving alter column organisation type jsonb using ''{}''::jsonb'), '^0A000 .*cannot be part of a key', 'a type that cannot be rendered is refused');
select is(pg_temp.answer('alter table moving rename to moved'), 'ok', 'the table can be renamed');
create schema elsewhere;
select is(pg_temp.answer('alter table moved set schema elsewhere'), 'ok', 'and moved to another schema');
select is(pg_temp.captured('update elsewhere.moved set spent = 4'), array['u moving:0a0b0c0d-0000-4000-8000-00000000000f:*'], 'and is still exact');
select matches(pg_temp.answer('alter table parents rename column user_id to owner_id'), '^42703 the watch of public.children .*needs what this statement takes away', 'a joined column cannot be renamed under a watch');
select matches(pg_temp.answer('alter table parents drop column user_id'), '^42703 the watch of public.children', 'nor dropped');
select matches(pg_temp.answer('drop table parents'), '^42P01 the watch of public.children', 'nor can the joined table be');
select matches(pg_temp.answer('alter table parents rename to forebears'), '^42P01 the watch of public.children', 'nor renamed');
select is(pg_temp.answer('alter table moving disable trigger all'), '42P01 relation "moving" does not exist | ', 'a statement that fails by itself keeps its message');
select is(pg_temp.answer('drop table children, parents'), 'ok', 'both together can be dropped');
select is((select count(*) from cache_invalidation.watches where join_clause is not null), 0::bigint, 'and their watch is gone');
select is(pg_temp.answer('alter table elsewhere.moved disable trigger user'), 'ok', 'triggers can be disabled');
select is(pg_temp.captured('update elsewhere.moved set spent = 5'), '{}', 'and stay disabled');
select cache_invalidation.refresh();
select is(pg_temp.answer('drop schema elsewhere cascade'), 'ok', 'a schema with a watched table can be dropped');
select is((select count(*) from cache_invalidation.watches where target like 'moving%'), 0::bigint, 'and the watch with it');

-- values that change without a write
create function pg_temp.by_hand(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.outbox;
  execute statement;
  return array(select o.target from cache_invalidation.outbox as o order by o.target);
end
$$;
create table public.rewritten (id integer, org_id text, used integer) partition by list (id);
create table public.rewritten_rest partition of public.rewritten default;
create table public.reader (id integer, org_id text);
select cache_invalidation.watch('public.rewritten', 'written:{org_id}:*');
select cache_invalidation.watch('public.reader', 'reader:{r.used}', join => 'public.rewritten r on r.org_id = row.org_id');
select is(pg_temp.by_hand('alter table public.rewritten alter column used type bigint using used + 1'), array['reader:*', 'written:*'], 'a statement that rewrites rows invalidates the types of all watches that read them');
select is(pg_temp.by_hand('alter table public.rewritten add column note text default ''x'''), '{}', 'one that rewrites none does not');
create table public.unrelated (id integer);
select is(pg_temp.by_hand('alter table public.unrelated alter column id type bigint'), '{}', 'nor does one of another table');
select cache_invalidation.unwatch('public.reader'), cache_invalidation.unwatch('public.rewritten');

-- a statement looks only at the watches that it can concern
set local track_functions = 'all';
create function pg_temp.looked_at(statement text) returns integer language plpgsql as $$
declare
  before bigint;
begin
  before := coalesce(pg_stat_get_xact_function_calls('cache_invalidation.refresh_within_ddl'::regproc), 0);
  execute statement;
  return coalesce(pg_stat_get_xact_function_calls('cache_invalidation.refresh_within_ddl'::regproc), 0) - before;
end
$$;
create type public.mood as enum ('good', 'bad');
create type public.other_mood as enum ('good', 'bad');
create schema apart;
create table apart.things (id integer primary key, org_id text, mood public.mood);
create table public.wholes (id integer, org_id text) partition by list (id);
create table public.wholes_1 partition of public.wholes for values in (1);
create table public.wholes_2 (organisation text, id integer);
create table public.parents (id integer primary key, user_id text);
create table public.children (id integer primary key, parent_id integer);
select cache_invalidation.watch('apart.things', 'thing:{org_id}');
select cache_invalidation.watch('public.wholes_1', 'one:{org_id}');
select cache_invalidation.watch('public.wholes_2', 'two:{organisation}');
select cache_invalidation.watch('public.children', 'user:{p.user_id}:list', join => 'public.parents p on p.id = row.parent_id');
select is(pg_temp.looked_at(statement), times, statement)
from (values
  ('alter table public.unrelated add column note text', 0),
  ('alter table public.unrelated rename column note to remark', 0),
  ('alter table public.unrelated drop column remark', 0),
  ('create table public.new (id integer primary key, mood public.mood)', 0),
  ('create temporary table new_too as select 1 as id', 0),
  ('drop table public.new', 0),
  ('alter table apart.things add column note text', 1),
  ('alter table apart.things rename to renamed', 1),
  ('alter table public.parents add column note text', 1),
  ('alter table public.children drop column id', 1),
  -- the type's, and all with a join
  ('alter type public.mood add value ''fair''', 2),
  ('alter type public.other_mood add value ''fair''', 1),
  ('alter schema apart rename to aside', 2),
  -- the partitions follow
  ('alter table public.wholes rename column org_id to organisation', 1),
  ('alter table public.wholes attach partition public.wholes_2 for values in (2)', 2),
  ('alter table public.wholes detach partition public.wholes_2', 2),
  ('drop table public.parents, public.children', 1),
  ('drop table public.wholes', 1)
) as s(statement, times);
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'and all are in line');
select cache_invalidation.unwatch('aside.renamed'), cache_invalidation.unwatch('public.wholes_2');

-- after a restore: the tables have other oids, columns may have other numbers, transactions begin anew
create table public.restored (id integer, org_id text);
select cache_invalidation.watch('public.restored', 'restored:{org_id}:*');
update cache_invalidation.watches set declared_oid = 1, column_numbers = '{"org_id": 1}' where rel = 'public.restored'::regclass;
select is(pg_temp.answer('alter table public.restored rename column org_id to organisation'), 'ok', 'a rename before refresh() is not refused');
select is(pg_temp.captured($$insert into public.restored values (1, 'a')$$), array['i restored:*'], 'nor guessed at: it widens');
select cache_invalidation.unwatch('public.restored');
select is((select count(*) from cache_invalidation.problems()), 0::bigint, 'no problem before');
insert into cache_invalidation.outbox (xid, target) values ('9000000000', 'restored:a:*');
select results_eq('select watch_id, problem from cache_invalidation.problems()', $$values (null::integer, 'the outbox holds rows from a restored dump, which no worker can claim')$$, 'rows of transactions that have not been yet are named');
delete from cache_invalidation.outbox;

-- without event triggers, as for a role that may not create them
drop event trigger fencepost_ddl;
drop event trigger fencepost_drop;
create table public.alone (id integer primary key, org_id text, used integer);
create table public.parents (id integer primary key, user_id text);
create table public.children (id integer primary key, parent_id integer);
insert into parents values (1, 'u');
select cache_invalidation.watch('public.alone', 'alone:{org_id}:*');
select cache_invalidation.watch('public.children', 'user:{p.user_id}:list', join => 'public.parents p on p.id = row.parent_id');
select is(pg_temp.captured($$insert into alone values (1, 'a', 0), (2, 'b', 0)$$), array['i alone:a:*', 'i alone:b:*'], 'exact while nothing has changed');
select is(pg_temp.captured('insert into children values (1, 1)'), array['i user:u:list'], 'exact while nothing has changed: join');
alter table alone rename column org_id to renamed;
select is(pg_temp.captured($$insert into alone values (3, 'c', 0)$$), array['i alone:* 42703'], 'a renamed column: INSERT succeeds and widens');
select is(pg_temp.captured($$update alone set used = 1$$), array['u alone:* 42703'], 'a renamed column: UPDATE');
select is(pg_temp.captured($$delete from alone where id = 1$$), array['d alone:* 42703'], 'a renamed column: DELETE');
select is(pg_temp.captured($$truncate alone$$), array['t alone:*'], 'a renamed column: TRUNCATE');
select matches((select string_agg(problem, '; ') from cache_invalidation.problems()), 'invalidate the whole type of alone:\{org_id\}:\*: .*no column org_id.*there are no event triggers', 'problems() says so');
select is(cache_invalidation.refresh(), (select count(*)::integer from cache_invalidation.watches), 'refresh() by hand');
select is(pg_temp.captured($$insert into alone values (3, 'c', 0)$$), array['i alone:c:*'], 'follows the rename');
alter table alone alter column renamed type timestamptz using '2026-01-01 00:00+00';
select is(pg_temp.captured($$update alone set used = 2$$), array['u alone:2026-01-01T00%3A00%3A00Z:*'], 'another type is rendered its own way at once');
alter table alone alter column renamed type jsonb using '{"a": 1}'::jsonb;
select is(pg_temp.captured($$update alone set used = 3$$), array['u alone:* 42883'], 'a type that cannot be rendered widens');
alter table alone drop column renamed cascade;
select is(pg_temp.captured($$update alone set used = 4$$), array['u alone:* 42703'], 'a dropped column widens');
select is(pg_temp.captured($$delete from alone$$), array['d alone:* 42703'], 'a dropped column: DELETE');
alter table parents rename column user_id to owner_id;
select is(pg_temp.captured($$update children set parent_id = 1$$), array['u user:* 42703'], 'a renamed joined column widens');
alter table parents rename to others;
select is(pg_temp.captured($$delete from children$$), array['d user:* 42P01'], 'a renamed joined table widens');
drop table others;
select is(pg_temp.captured($$insert into children values (1, 1)$$), array['i user:* 42P01'], 'a dropped joined table widens');
drop table children;
select matches((select string_agg(problem, '; ') from cache_invalidation.problems()), 'was dropped', 'a dropped watched table is named');
select cache_invalidation.unwatch('public.alone');
select ok(cache_invalidation.refresh() > 0, 'refresh() removes its watch');
select is((select count(*) from cache_invalidation.watches where target like 'user:{p%'), 0::bigint, 'it is gone');

select * from finish();
rollback;
