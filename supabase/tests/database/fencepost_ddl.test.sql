-- Tables that change under their watches: with event triggers, and without.
\ir fencepost_preamble.psql

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
select is(pg_temp.answer('alter table moving drop column extra'), 'ok', 'another column can be dropped');
select is(pg_temp.captured('update moving set spent = 1'), '{}', 'and is forgotten: an update that changes nothing is none');
select is(pg_temp.answer('alter table moving alter column organisation type varchar(30)'), 'ok', 'a type that can be rendered');
select is(pg_temp.captured('update moving set spent = 2'), array['u moving:a:*'], 'writes are exact after the change of type');
select is(pg_temp.answer('alter table moving alter column organisation type uuid using ''0a0b0c0d-0000-4000-8000-00000000000f''::uuid'), 'ok', 'another type');
select is(pg_temp.captured('update moving set spent = 3'), array['u moving:0a0b0c0d-0000-4000-8000-00000000000f:*'], 'is rendered its own way');
select is(pg_temp.answer('alter table moving rename to moved'), 'ok', 'the table can be renamed');
create schema elsewhere;
select is(pg_temp.answer('alter table moved set schema elsewhere'), 'ok', 'and moved to another schema');
select is(pg_temp.captured('update elsewhere.moved set spent = 4'), array['u moving:0a0b0c0d-0000-4000-8000-00000000000f:*'], 'and is still exact');
select is(pg_temp.answer('alter table elsewhere.moved alter column organisation type jsonb using ''{}''::jsonb'), 'ok', 'a type that cannot be rendered');
select is(pg_temp.captured('update elsewhere.moved set spent = 5'), array['u moving:* 42804'], 'widens');
select is(pg_temp.problems(), array['warning: writes to elsewhere.moved invalidate the whole type of moving:{organisation}:*: the column organisation of elsewhere.moved cannot be part of a key: its type is jsonb'], 'which problems() names');
select is(pg_temp.answer('alter table elsewhere.moved alter column organisation type text using ''b'''), 'ok', 'one that can be rendered');
select is(pg_temp.captured('update elsewhere.moved set spent = 6'), array['u moving:b:*'], 'is exact again');
select is(pg_temp.answer('alter table elsewhere.moved drop column spent'), 'ok', 'a column of columns can be dropped');
select is(pg_temp.captured('update elsewhere.moved set id = id + 1'), array['u moving:* 42804'], 'and widens');
select is(pg_temp.problems(), array['warning: writes to elsewhere.moved invalidate the whole type of moving:{organisation}:*: the table elsewhere.moved has no column spent'], 'problems() names the column');
select is(pg_temp.answer('alter table elsewhere.moved add column spent integer'), 'ok', 'a column of that name can be added');
select is(pg_temp.captured('update elsewhere.moved set spent = 7'), array['u moving:b:*'], 'and serves the watch');
select is(pg_temp.captured('update elsewhere.moved set id = id + 1'), '{}', 'as narrowly as before');
select is(pg_temp.problems(), '{}', 'no problem any more');
select is(pg_temp.answer('alter table elsewhere.moved drop column organisation cascade'), 'ok', 'a column of the target can be dropped');
select is(pg_temp.captured(statement), array[left(statement, 1) || ' moving:* 42804'], 'and widens: ' || statement)
from unnest(array['update elsewhere.moved set spent = 8', 'insert into elsewhere.moved (id) values (7)', 'delete from elsewhere.moved where id = 7']) as statement;
select is(pg_temp.problems(), array['warning: writes to elsewhere.moved invalidate the whole type of moving:{organisation}:*: the table elsewhere.moved has no column organisation'], 'problems() names it');

-- joined tables
select is(pg_temp.answer('alter table parents rename column user_id to owner_id'), 'ok', 'a joined column can be renamed');
select is((select target from cache_invalidation.watches where rel = 'public.children'::regclass), 'user:{p.owner_id}:list', 'and the watch follows');
select is(pg_temp.captured('insert into children values (1, 1)'), array['i user:u:list'], 'and is exact');
select is(pg_temp.captured('update parents set owner_id = ''v'''), array['u user:u:list', 'u user:v:list'], 'for the parent, too');
select is(pg_temp.answer('alter table parents rename to forebears'), 'ok', 'the joined table can be renamed');
select is(pg_temp.captured('update children set id = 2'), array['u user:v:list'], 'and the watch is exact');
select is(pg_temp.answer('alter table forebears drop column owner_id'), 'ok', 'the joined column can be dropped');
select is(pg_temp.captured('update children set id = id + 1'), array['u user:* 42804'], 'and widens');
select is(pg_temp.captured('update forebears set id = id'), array['u user:* 42804'], 'of the parent, too');
select is(pg_temp.answer('alter table forebears add column owner_id text default ''w'''), 'ok', 'it can be added again');
select is(pg_temp.captured('update children set id = id + 1'), array['u user:w:list'], 'and is exact');
select is(pg_temp.captured('update forebears set owner_id = ''x'''), array['u user:w:list', 'u user:x:list'], 'of the parent, too');
select is(pg_temp.answer('drop table forebears'), 'ok', 'the joined table can be dropped');
select is(pg_temp.captured('update children set id = id + 1'), array['u user:* 42804'], 'and widens');
select matches(array_to_string(pg_temp.problems(), ' '), 'warning: writes to public.children invalidate the whole type of user:\{p.owner_id\}:list: ', 'problems() names the child');
select is(pg_temp.answer('drop table children'), 'ok', 'the child can be dropped');
select is((select count(*) from cache_invalidation.watches where target like 'user:{p%'), 0::bigint, 'and the watch with it');
select is(pg_temp.answer('alter table moving disable trigger all'), '42P01 relation "moving" does not exist | ', 'a statement that fails by itself keeps its message');
select is(pg_temp.answer('alter table elsewhere.moved disable trigger user'), 'ok', 'triggers can be disabled');
select is(pg_temp.captured('update elsewhere.moved set spent = 5'), '{}', 'and stay disabled');
select cache_invalidation.refresh();
select is(pg_temp.answer('drop schema elsewhere cascade'), 'ok', 'a schema with a watched table can be dropped');
select is((select count(*) from cache_invalidation.watches where target like 'moving%'), 0::bigint, 'and the watch with it');

-- values that change without a write
create function pg_temp.by_hand(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  execute statement;
  return array(select o.target from cache_invalidation.outbox as o order by o.target);
end
$$;
create table public.rewritten (id integer primary key, org_id text, used integer) partition by list (id);
create table public.rewritten_rest partition of public.rewritten default;
create table public.reader (id integer, org_id text);
select cache_invalidation.watch('public.rewritten', 'written:{org_id}:*');
select cache_invalidation.watch('public.reader', 'reader:{r.used}', join => 'public.rewritten r on r.id = row.id');
select is(pg_temp.by_hand('alter table public.rewritten alter column used type bigint using used + 1'), array['reader:*', 'written:*'], 'a statement that rewrites rows invalidates the types of all watches that read them');
select is(pg_temp.by_hand('alter table public.rewritten add column note text default ''x'''), '{}', 'one that rewrites none does not');
create table public.unrelated (id integer);
select is(pg_temp.by_hand('alter table public.unrelated alter column id type bigint'), '{}', 'nor does one of another table');
select cache_invalidation.unwatch('public.reader'), cache_invalidation.unwatch('public.rewritten');

-- a statement brings in line only the watches that it concerns
set local track_functions = 'all';
create function pg_temp.brought_in_line(statement text) returns integer language plpgsql as $$
declare
  before bigint;
begin
  before := coalesce(pg_stat_get_xact_function_calls('cache_invalidation.bring_in_line'::regproc), 0);
  execute statement;
  return coalesce(pg_stat_get_xact_function_calls('cache_invalidation.bring_in_line'::regproc), 0) - before;
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
select is(pg_temp.brought_in_line(statement), times, statement)
from (values
  ('alter table public.unrelated add column note text', 0),
  ('alter table public.unrelated rename column note to remark', 0),
  ('alter table public.unrelated drop column remark', 0),
  ('create table public.new (id integer primary key, mood public.mood)', 0),
  ('create temporary table new_too as select 1 as id', 0),
  ('drop table public.new', 0),
  ('alter table apart.things add column note text', 0),
  ('alter table apart.things rename to renamed', 1),
  ('alter table apart.renamed drop column note', 0),
  ('alter table apart.renamed rename column org_id to organisation', 1),
  ('alter table public.parents add column note text', 0),
  ('alter table public.parents alter column user_id type varchar(20)', 2),
  ('alter table public.parents rename to forebears', 2),
  ('alter table public.children drop column id', 0),
  ('alter type public.mood add value ''fair''', 0),
  ('alter type public.other_mood add value ''fair''', 0),
  ('alter schema apart rename to aside', 1),
  -- the partitions follow
  ('alter table public.wholes rename column org_id to organisation', 1),
  ('alter table public.wholes attach partition public.wholes_2 for values in (2)', 0),
  ('alter table public.wholes detach partition public.wholes_2', 0),
  ('drop table public.forebears, public.children', 2),
  ('drop table public.wholes', 1)
) as s(statement, times);
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'and all are in line');
select is(pg_temp.captured('insert into aside.renamed (id, organisation) values (1, ''a''); insert into wholes_2 (organisation) values (''b'')'), array['i thing:a', 'i two:b'], 'and exact');
select cache_invalidation.unwatch('aside.renamed'), cache_invalidation.unwatch('public.wholes_2');

-- after a restore: the tables have other oids, columns may have other numbers, transactions begin anew
create table public.restored (id integer, org_id text);
select cache_invalidation.watch('public.restored', 'restored:{org_id}:*');
insert into public.restored values (0, 'before');
update cache_invalidation.watches set declared_oid = 1, declared_columns = '{"org_id": 1}' where rel = 'public.restored'::regclass;
update cache_invalidation.versions as v
  set reads = array(select row(c.alias, 1, 1, c.name, c.type, '3', c.meaning, c.is_key)::cache_invalidation.read_column from unnest(v.reads) as c)
  where v.rel = 'public.restored'::regclass;
select is(array(select target from cache_invalidation.outbox where op = 'i' and error = '42804'), array['restored:*'], 'what was written before the dump widens');
select is(pg_temp.captured($$insert into public.restored values (1, 'a')$$), array['i restored:* 42804'], 'and what is written before refresh()');
select matches(pg_temp.problems()::text, '^\{"warning: [^"]*public.restored or its columns were renamed, changed, dropped or restored from a dump', 'problems() asks for refresh()');
select is(pg_temp.answer('alter table public.restored rename column org_id to organisation'), 'ok', 'a rename before refresh() is not refused');
select is(pg_temp.captured($$insert into public.restored values (1, 'a')$$), array['i restored:* 42804'], 'nor guessed at: it widens');
alter table public.restored rename column organisation to org_id;
select cache_invalidation.refresh();
select is(pg_temp.captured($$insert into public.restored values (1, 'a')$$), array['i restored:a:*'], 'after refresh() it is exact');
select is(pg_temp.problems(), '{}', 'no problem any more');
select cache_invalidation.unwatch('public.restored');
delete from cache_invalidation.changes;
insert into cache_invalidation.changes (xid, change) values ('9000000000', array['restored:a:*']);
select results_eq('select watch_id, problem from cache_invalidation.problems()', $$values (null::integer, 'the outbox holds changes of another server''s transactions, as from a restored dump')$$, 'changes of transactions that have not been yet are named');
delete from cache_invalidation.changes;

-- without event triggers, as for a role that may not create them
delete from cache_invalidation.dropped_watches;
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
select is(pg_temp.captured($$truncate alone$$), array['t alone:* 42804'], 'a renamed column: TRUNCATE');
select matches(pg_temp.problems()::text, 'public.alone or its columns were renamed, .*there are no event triggers', 'problems() says so');
select is(cache_invalidation.refresh(), (select count(*)::integer from cache_invalidation.watches where implied_by is null), 'refresh() by hand');
select is(pg_temp.captured($$insert into alone values (3, 'c', 0)$$), array['i alone:c:*'], 'follows the rename');
select is(pg_temp.problems(), array['notice: there are no event triggers (fencepost_ddl, fencepost_drop), so invalidations widen after a change of a watched table, until refresh()'], 'and ends the problem');
alter table alone alter column renamed type timestamptz using '2026-01-01 00:00+00';
select is(pg_temp.captured($$update alone set used = 2$$), array['u alone:* 42804'], 'another type widens');
select cache_invalidation.refresh();
select is(pg_temp.captured($$update alone set used = 2$$), array['u alone:2026-01-01T00%3A00%3A00Z:*'], 'and is rendered its own way after refresh()');
alter table alone alter column renamed type jsonb using '{"a": 1}'::jsonb;
select is(pg_temp.captured($$update alone set used = 3$$), array['u alone:* 42804'], 'a type that cannot be rendered widens');
alter table alone drop column renamed cascade;
select is(pg_temp.captured($$update alone set used = 4$$), array['u alone:* 42703'], 'a dropped column widens');
select is(pg_temp.captured($$delete from alone$$), array['d alone:* 42703'], 'a dropped column: DELETE');
alter table alone add column renamed text;
select is(pg_temp.captured($$insert into alone values (4, 0, 'd')$$), array['i alone:* 42804'], 'another column of its name widens');
select cache_invalidation.refresh();
select is(pg_temp.captured($$insert into alone values (5, 0, 'd')$$), array['i alone:d:*'], 'and serves the watch after refresh()');
alter table parents rename column user_id to owner_id;
select is(pg_temp.captured($$update children set parent_id = 1$$), array['u user:* 42804'], 'a renamed joined column widens');
select is(pg_temp.captured($$update parents set owner_id = 'v'$$), array['u user:* 42703'], 'as do writes of the parent');
select cache_invalidation.refresh();
select is(pg_temp.captured($$update children set parent_id = 1$$), array['u user:v:list'], 'until refresh()');
alter table parents rename to others;
create table public.parents (id integer primary key, owner_id text);
insert into public.parents values (1, 'wrong');
select is(pg_temp.captured($$update children set parent_id = 1$$), array['u user:* 42804'], 'a renamed joined table widens, whatever has its name now');
select matches(pg_temp.problems()::text, 'public.others or its columns were renamed', 'problems() says so');
select cache_invalidation.refresh();
select is(pg_temp.captured($$update children set parent_id = 1$$), array['u user:v:list'], 'until refresh()');
drop table others;
select is(pg_temp.captured($$insert into children values (2, 1)$$), array['i user:* 42804'], 'a dropped joined table widens');
drop table children;
select matches(pg_temp.problems()::text, 'was dropped', 'a dropped watched table is named');
select cache_invalidation.unwatch('public.alone');
select ok(cache_invalidation.refresh() > 0, 'refresh() removes its watch');
select is((select count(*) from cache_invalidation.watches where target like 'user:{p%'), 0::bigint, 'it is gone');
select is((select count(*) from pg_proc where pronamespace = 'cache_invalidation'::regnamespace and proname ~ 'parents|children|others|alone'), 0::bigint, 'and so are the functions');

select * from finish();
rollback;
