-- Ways in which capture ends: problems() names each, refresh() or watch() ends it, and what ends a gap invalidates the type.
\ir fencepost_preamble.psql

create table public.gaps (id integer primary key, org_id text, note text);
select is(pg_temp.captured($$select cache_invalidation.watch('public.gaps', 'gap:{org_id}')$$), array['- gap:*'], 'a new watch invalidates its type: writes before it left no target');
select is(pg_temp.captured($$select cache_invalidation.watch('public.gaps', 'gap:{org_id}')$$), '{}', 'the same declaration again: nothing');
select is(pg_temp.captured($$select cache_invalidation.watch('public.gaps', 'gap:{org_id}', min_interval => '1 s')$$), '{}', 'another interval: nothing');
select is(pg_temp.captured($$select cache_invalidation.watch('public.gaps', 'gap:{org_id}', columns => array['note'])$$), array['- gap:*'], 'other columns: the type');
select is(pg_temp.captured($$select cache_invalidation.watch('public.gaps', 'gap:{org_id}')$$), array['- gap:*'], 'all columns again: the type');
select is(pg_temp.captured('select cache_invalidation.refresh()'), '{}', 'refresh() with nothing to do: nothing');

-- a table that is dropped and created again
create function pg_temp.lost() returns text[] language sql as $$
  select array['error: public.gaps is not watched for ''gap:{org_id}'', as the table was that had its name and was dropped']
$$;
drop table public.gaps;
select is(pg_temp.problems(), '{}', 'a dropped table: nothing is missed while there is none of its name');
create table public.gaps (id integer primary key, org_id text, note text);
select is(pg_temp.problems(), pg_temp.lost(), 'created again: it is not watched');
select is(pg_temp.captured('select cache_invalidation.refresh()'), array['- gap:*'], 'refresh() watches it and invalidates the type');
select is(pg_temp.captured($$insert into public.gaps values (1, 'a')$$), array['i gap:a'], 'writes are captured again');
select is(pg_temp.problems(), '{}', 'no problem any more');
select cache_invalidation.watch('public.gaps', 'gap:{org_id}', columns => array['note'], min_interval => '1 minute');
drop table public.gaps;
create table public.gaps (id integer primary key, org_id text, note text);
select cache_invalidation.refresh();
select results_eq('select columns, min_interval from cache_invalidation.watches where rel = ''public.gaps''::regclass', $$values (array['note'], interval '1 minute')$$, 'the whole declaration is remembered');
drop table public.gaps;
create table public.gaps (id integer primary key, org_id text, note text);
select cache_invalidation.watch('public.gaps', 'gap:{org_id}');
select is(pg_temp.problems(), '{}', 'watch() is as good');
drop table public.gaps;
select is(cache_invalidation.unwatch(name => 'public.gaps', target => 'other'), 0, 'unwatch by name: another target');
select is(cache_invalidation.unwatch(name => 'public.gaps'), 1, 'unwatch by name, when the table is gone');
create table public.gaps (id integer primary key, org_id text, note text);
select is(pg_temp.problems(), '{}', 'it is forgotten');
select cache_invalidation.watch('public.gaps', 'gap:{org_id}');
select is(cache_invalidation.unwatch(name => 'public.gaps', target => 'gap:{row.org_id}'), 1, 'unwatch by name, when the table is there');

-- the table of that name cannot be watched
select cache_invalidation.watch('public.gaps', 'gap:{org_id}');
drop table public.gaps;
create table public.gaps (id integer primary key);
select cache_invalidation.refresh();
select is(pg_temp.problems(), pg_temp.lost(), 'without the column: refresh() does not fail, and the problem stays');
drop table public.gaps;
create view public.gaps as select 'a' as org_id;
select is(pg_temp.problems(), pg_temp.lost(), 'a view of that name: its tables are not watched');
drop view public.gaps;
select cache_invalidation.unwatch(name => 'public.gaps');

-- rebuilt under another name, in every order of three steps
create function pg_temp.check_rebuilt(steps text[]) returns setof text language plpgsql as $$
declare
  title constant text := array_to_string(steps, '; ');
  step text;
begin
  create table public.gaps (id integer primary key, org_id text);
  perform cache_invalidation.watch('public.gaps', 'gap:{org_id}');
  create table public.gaps_new (id integer primary key, org_id text);
  foreach step in array steps loop
    execute step;
  end loop;
  return next matches(pg_temp.problems()::text, '^\{"error: [^"]*public.gaps', title);
  return next alike(pg_temp.captured('select cache_invalidation.refresh()')::text, '%gap:*%', title || ': refresh() invalidates the type');
  return next is(pg_temp.captured($s$insert into public.gaps values (1, 'a')$s$), array['i gap:a'], title || ': the table of that name is watched');
  return next is(pg_temp.problems(), '{}', title || ': no problem any more');
  drop table public.gaps;
  drop table if exists public.gaps_old;
  delete from cache_invalidation.dropped_watches;
end
$$;
select pg_temp.check_rebuilt(array['drop table public.gaps', 'alter table public.gaps_new rename to gaps']);
select pg_temp.check_rebuilt(array['alter table public.gaps rename to gaps_old', 'alter table public.gaps_new rename to gaps']);
select pg_temp.check_rebuilt(array['alter table public.gaps rename to gaps_old', 'alter table public.gaps_new rename to gaps', 'drop table public.gaps_old']);
select pg_temp.check_rebuilt(array['alter table public.gaps rename to gaps_old', 'drop table public.gaps_old', 'alter table public.gaps_new rename to gaps']);

-- a table that was renamed for good is remembered by its present name as well
create table public.first_name (org_id text);
select cache_invalidation.watch('public.first_name', 'named:{org_id}');
alter table public.first_name rename to second_name;
drop table public.second_name;
create table public.second_name (org_id text);
select is(pg_temp.problems(), array['error: public.second_name is not watched for ''named:{org_id}'', as the table was that had its name and was dropped'], 'dropped under its second name');
select cache_invalidation.refresh();
select is(pg_temp.problems(), '{}', 'and watched again');
alter table public.second_name rename to third_name;
alter event trigger fencepost_ddl disable;
alter event trigger fencepost_drop disable;
drop table public.third_name;
create table public.third_name (org_id text);
select matches((pg_temp.problems())[1], '^error: the table of watch [0-9]+ \(named:\{org_id\}\) was dropped$', 'unseen by event triggers, too');
alter event trigger fencepost_ddl enable always;
alter event trigger fencepost_drop enable always;
-- as if by a role whose statements fire no event trigger: nothing tells of that
select cache_invalidation.keep_catalog_snapshot('{0}');
select is(pg_temp.captured('select cache_invalidation.refresh()'), array['- named:*'], 'refresh() watches the one of that name');
alter event trigger fencepost_ddl disable;
alter event trigger fencepost_drop disable;
alter table public.third_name rename to fourth_name;
select is((pg_temp.problems())[1], 'warning: public.fourth_name or its columns were renamed, changed, dropped or restored from a dump since its watches were last brought in line', 'a rename that was not seen');
alter event trigger fencepost_ddl enable always;
alter event trigger fencepost_drop enable always;
select cache_invalidation.refresh();
select is(pg_temp.problems(), '{}', 'is followed by refresh()');
drop table public.fourth_name;
delete from cache_invalidation.dropped_watches;

create table public.copied (id integer primary key, org_id text);
select cache_invalidation.watch('public.copied', 'copied:{org_id}');

-- a copy of the schema alone, or TRUNCATE of every table: the engine's tables are empty, and their numbers begin again
select pg_temp.run(format('truncate %s restart identity', string_agg(c.oid::regclass::text, ', '))) from pg_class as c where c.relnamespace = 'cache_invalidation'::regnamespace and c.relkind = 'r';
select matches(pg_temp.problems()::text, '^\{"warning: the epoch is missing[^"]*","warning: there are capture functions without a declaration, as in a copy of the schema alone, on the tables .*copied', 'triggers without declarations, and no epoch');
create temporary table epochs as select cache_invalidation.new_epoch() as made;
select results_eq('select value from cache_invalidation.epoch', 'select made from epochs', 'new_epoch() makes one');
insert into epochs select cache_invalidation.new_epoch();
select results_eq('select value from cache_invalidation.epoch', 'select made from epochs offset 1', 'and another in its place');
select is(pg_temp.captured($$insert into public.copied values (1, 'a')$$), array['i * 02000'], 'the triggers of the copy go on, and what nobody knows any more invalidates everything');
create table public.other (id integer primary key, org_id text);
create function pg_temp.triggers() returns setof text language sql as $$
  select concat_ws(' ', t.tgname, t.tgrelid::regclass, t.tgenabled, md5(p.prosrc)) from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
  where p.pronamespace = 'cache_invalidation'::regnamespace
$$;
create temporary table former as select t from pg_temp.triggers() as t;
select cache_invalidation.watch('public.other', 'other:{org_id}');
select is_empty('select t from former except select t from pg_temp.triggers() as t', 'watch() takes no number of theirs, and leaves their triggers and functions as they are');
select is(pg_temp.captured($$insert into public.copied values (2, 'a'); insert into public.other values (1, 'a')$$), array['i * 02000', 'i other:a'], 'which writes its own target');
select cache_invalidation.watch('public.copied', 'copied:{org_id}');
select cache_invalidation.refresh();
select alike(pg_temp.problems()::text, '%copied%', 'watched again, the former triggers are still there');
select pg_temp.run(replace((select remedy from cache_invalidation.problems() where problem like 'there are capture functions%'), 'watch() these tables again, then: ', ''));
select is(pg_temp.problems(), '{}', 'the remedy removes them');
select is(pg_temp.captured($$insert into public.copied values (3, 'a')$$), array['i copied:a'], 'and writes are captured once');

-- declarations without triggers
select pg_temp.run(format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)) from pg_trigger as t where t.tgrelid = 'public.other'::regclass and t.tgname like 'fencepost%';
select matches(pg_temp.problems()::text, '^\{"error: triggers are missing or disabled: public.other', 'declarations without triggers');
select is(pg_temp.captured('select cache_invalidation.refresh()'), array['- other:*'], 'refresh() makes them');

-- the versions alone: refresh() makes new ones, and leaves the former triggers, because nothing tells whose they are
truncate cache_invalidation.versions cascade;
select matches(pg_temp.problems()::text, '"error: other:\{org_id\} is declared for public.other, and nothing captures for it"', 'versions that were emptied');
select is(pg_temp.captured($$insert into public.other values (2, 'b')$$), array['i * 02000'], 'what is written meanwhile invalidates everything');
select is(pg_temp.captured('select cache_invalidation.refresh()'), array['- copied:*', '- other:*'], 'refresh() makes them, and invalidates the types');
select matches(pg_temp.problems()::text, '^\{"warning: there are capture functions without a declaration[^"]* on the tables public.copied, public.other"\}$', 'the former functions are left over');
select is(pg_temp.captured($$insert into public.other values (3, 'c')$$), array['i * 02000', 'i other:c'], 'and go on');
select pg_temp.run(split_part(remedy, 'then: ', 2)) from cache_invalidation.problems();
select is(pg_temp.captured($$insert into public.other values (4, 'd')$$), array['i other:d'], 'until the remedy removes them');
select is(pg_temp.problems(), '{}', 'no problem any more');

-- event triggers lost in a restore
drop event trigger fencepost_drop;
select is(pg_temp.problems(), array['notice: there are no event triggers (fencepost_drop), so invalidations widen after a change of a watched table, until refresh()'], 'an event trigger is lost');
select cache_invalidation.create_event_triggers();
select is(pg_temp.problems(), '{}', 'create_event_triggers() makes it again');
alter event trigger fencepost_rewrite enable;
select cache_invalidation.create_event_triggers();
select is(pg_temp.problems(), '{}', 'and has all of them fire always');
drop event trigger fencepost_ddl, fencepost_drop, fencepost_rewrite;
select cache_invalidation.create_event_triggers();
select is(array(select concat(evtname, ' ', evtenabled) from pg_event_trigger where evtname like 'fencepost%' order by evtname), array['fencepost_ddl A', 'fencepost_drop A', 'fencepost_rewrite A'], 'all of them');

-- everything that a schema holds goes, as before a restore
create schema apart;
create table apart.things (id integer primary key, org_id text);
select cache_invalidation.watch('apart.things', 'thing:{org_id}');
select is(pg_temp.captured('drop schema apart cascade'), array['- thing:*'], 'DROP SCHEMA CASCADE invalidates');
create schema apart;
create table apart.things (id integer primary key, org_id text);
select is(pg_temp.problems(), array['error: apart.things is not watched for ''thing:{org_id}'', as the table was that had its name and was dropped'], 'and its tables are not watched when they are there again');
select is(pg_temp.captured('select cache_invalidation.refresh()'), array['- thing:*'], 'until refresh()');

-- partitions that come and go with rows
create table public.whole (id integer, org_id text) partition by list (id);
select cache_invalidation.watch('public.whole', 'whole:{org_id}');
select is(pg_temp.captured('create table public.whole_1 partition of public.whole for values in (1)'), '{}', 'a new partition has no rows');
create table public.whole_2 (id integer, org_id text);
select is(pg_temp.captured('alter table public.whole attach partition public.whole_2 for values in (2)'), '{}', 'ATTACH of an empty table: nothing');
select is(pg_temp.captured('alter table public.whole detach partition public.whole_2'), array['- whole:*'], 'DETACH of one, of which nothing says that it was always empty: the type');
insert into public.whole_2 values (2, 'a');
select is(pg_temp.captured('alter table public.whole attach partition public.whole_2 for values in (2)'), array['- whole:*'], 'ATTACH with rows: the type');
select is(pg_temp.captured('alter table public.whole detach partition public.whole_2'), array['- whole:*'], 'DETACH with rows: the type');
create table public.whole_3 (id integer, org_id text) partition by list (org_id);
create table public.whole_3_a partition of public.whole_3 for values in ('a');
insert into public.whole_3 values (3, 'a');
select is(pg_temp.captured('alter table public.whole attach partition public.whole_3 for values in (3)'), array['- whole:*'], 'ATTACH of a partitioned table with rows');
select is(pg_temp.captured('alter table public.whole detach partition public.whole_3'), array['- whole:*'], 'and its DETACH');
select is(pg_temp.problems(), '{}', 'no problem of any');

-- so with all of public
create table public.quotas_again (org_id text, provider text, model text);
select cache_invalidation.watch('public.quotas_again', 'again:{org_id}');
select alike(pg_temp.captured('drop schema public cascade')::text, '%"- again:*"%', 'DROP SCHEMA public CASCADE invalidates');
select is(pg_temp.problems(), '{}', 'nothing is missed while there is no table');
create schema public;
create table public.quotas_again (org_id text);
select is(pg_temp.problems(), array['error: public.quotas_again is not watched for ''again:{org_id}'', as the table was that had its name and was dropped'], 'and its tables are not watched when they are there again');
select is(pg_temp.captured('select cache_invalidation.refresh()'), array['- again:*'], 'until refresh()');

-- without event triggers
alter event trigger fencepost_ddl disable;
alter event trigger fencepost_drop disable;
create function pg_temp.table_problems() returns text[] language sql as $$
  select array(select p from unnest(pg_temp.problems()) as p where p not like '%event triggers%')
$$;
create table public.unseen (id integer primary key, org_id text);
select cache_invalidation.watch('public.unseen', 'unseen:{org_id}');
drop table public.unseen;
select matches(pg_temp.table_problems()::text, '^\{"warning: the table of watch \d+ \(unseen:\{org_id\}\) was dropped"\}$', 'a drop that nobody saw');
create table public.unseen (id integer primary key, org_id text);
select matches(pg_temp.table_problems()::text, '^\{"error: the table of watch \d+ \(unseen:\{org_id\}\) was dropped"\}$', 'and created again: writes are missed');
alter event trigger fencepost_ddl enable always;
alter event trigger fencepost_drop enable always;
select cache_invalidation.keep_catalog_snapshot('{0}');
select is(pg_temp.captured('select cache_invalidation.refresh()'), array['- unseen:*'], 'refresh() watches the table of that name');
select is(pg_temp.captured($$insert into public.unseen values (1, 'a')$$), array['i unseen:a'], 'writes are captured again');
select is(pg_temp.table_problems(), '{}', 'no problem any more');

select * from finish();
rollback;
