-- Tables that are reached in more ways than one: partitions, inheritance. (Joins: fencepost_joins.)
\ir fencepost_preamble.psql

-- partitioned
create table public.events (id integer, org_id text, region text, used integer) partition by list (region);
create table public.events_eu partition of public.events for values in ('eu');
create table public.events_us partition of public.events for values in ('us') partition by range (id);
create table public.events_us_low partition of public.events_us for values from (0) to (100);
create table public.events_us_high partition of public.events_us for values from (100) to (1000000);
select cache_invalidation.watch('public.events', 'event:{org_id}:*');

select is(pg_temp.captured($$insert into events values (1, 'a', 'eu', 0), (2, 'b', 'us', 0)$$), array['i event:a:*', 'i event:b:*'], 'INSERT through the parent');
select is(pg_temp.captured($$insert into events_eu values (3, 'c', 'eu', 0)$$), array['i event:c:*'], 'INSERT into a partition');
select is(pg_temp.captured($$update events_us_low set used = 1$$), array['u event:b:*'], 'UPDATE of a partition of a partition');
select is(pg_temp.captured($$update events set region = 'us' where id = 1$$), array['d event:a:*'], 'a row that moves between partitions');
select is(array(select left(c.change, 1) from cache_invalidation.changes as c order by 1), array['d', 'i'], 'is deleted here and inserted there');
select is(pg_temp.captured($$update events set region = 'eu', org_id = 'moved' where id = 1$$), array['d event:a:*', 'i event:moved:*'], 'a row that moves between partitions and organisations');
select is(pg_temp.captured($$delete from events where id = 3$$), array['d event:c:*'], 'DELETE through the parent');
select is(pg_temp.captured($$truncate events_eu$$), array['t event:*'], 'TRUNCATE of a partition');
select ok(pg_temp.captured($$truncate events$$) @> array['t event:*'], 'TRUNCATE of the parent');
create table public.events_asia (used integer, org_id text, id integer, region text);
alter table public.events attach partition public.events_asia for values in ('asia');
select is(pg_temp.captured($$insert into events_asia (id, org_id, region) values (5, 'late', 'asia')$$), array['i event:late:*'], 'a partition attached later, with another order of columns');
select is(pg_temp.captured($$insert into events (id, org_id, region) values (6, 'late2', 'asia')$$), array['i event:late2:*'], 'the same through the parent');
select is(pg_temp.captured($$truncate events_asia$$), array['t event:*'], 'its TRUNCATE, by the event trigger');
create table public.events_rest partition of public.events default;
select is(pg_temp.captured($$insert into events_rest values (7, 'rest', 'x', 0)$$), array['i event:rest:*'], 'a partition created later');
select is(pg_temp.captured($$truncate events_rest$$), array['t event:*'], 'and its TRUNCATE');
select is(pg_temp.captured($$insert into events select i, 'o' || i % 3, 'us', 0 from generate_series(1, 5000) as i$$), array['i event:o0:*', 'i event:o1:*', 'i event:o2:*'], 'a large statement is reduced to its distinct targets');
select is(pg_temp.captured($$update events set org_id = 'p' || id$$), array['u event:*'], 'a large statement with many targets becomes the wildcard');
select is(pg_temp.captured($$delete from events$$), array['d event:*'], 'a large DELETE');
set local session_replication_role = replica;
select is(pg_temp.captured($$insert into events_asia (id, org_id, region) values (5, 'r', 'asia')$$), array['i event:r:*'], 'session_replication_role = replica, in a partition attached later');
reset session_replication_role;
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'no problem is reported');
select is(cache_invalidation.unwatch('public.events'), 1, 'unwatch a partitioned table');
select is((select count(*) from pg_trigger where tgname like 'fencepost%' and tgrelid in (select relid from pg_partition_tree('public.events'))), 0::bigint, 'no trigger is left on it');

-- the limit of targets, over several partitions and statements
select cache_invalidation.watch('public.events', 'event:{org_id}:*');
truncate events;
select is(pg_temp.captured($$insert into events_rest select i, 'r' || i, 'x', 0 from generate_series(1, 500) as i; insert into events select i, 'e' || i, 'eu', 0 from generate_series(1, 501) as i$$), array['i event:*'], '1 001 targets in two partitions');
select is(pg_temp.captured($$delete from events_eu where id = 501; delete from events_rest$$), array(select d.line from (select 'd event:e501:*' union all select 'd event:r' || i || ':*' from generate_series(1, 500) as i) as d(line) order by d.line collate "C"), '501 targets');
select is(cardinality(pg_temp.captured($$delete from events; insert into events select i, 'x' || i, 'eu', 0 from generate_series(1, 500) as i$$)), 1000, '1 000 targets');
-- What could not be read of one row is known of no other.
create function pg_temp.captured_with_error(statement text, failure text[]) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  execute statement;
  update cache_invalidation.changes set change = array_to_string(failure, E'\x01') where ctid = (select max(c.ctid) from cache_invalidation.changes as c);
  return array(select coalesce(o.op::text, '~') || ' ' || o.target || coalesce(' ' || o.error, '') from cache_invalidation.outbox as o order by o.target, o.op);
end
$$;
select is(pg_temp.captured_with_error($$insert into events select i, 'o' || i % 3, 'us', 0 from generate_series(1, 3000) as i$$, '{e,22000,i}'), array['i event:* 22000'], 'the error of one row of many widens');
select is(pg_temp.captured_with_error($$update events set used = 1 where id = 1$$, '{e,22000,u}'), array['u event:* 22000'], 'the error of the only row');
select is(pg_temp.captured_with_error($$update events set org_id = 'x' || id$$, '{e,22000,u}'), array['u event:* 22000'], 'the wildcard of too many targets keeps an error');
truncate events;
select cache_invalidation.unwatch('public.events');

-- narrowed by columns
select cache_invalidation.watch('public.events', 'event:{org_id}:*', columns => array['used']);
truncate events;
insert into events values (1, 'a', 'eu', 0);
select is(pg_temp.captured($$update events set id = 2$$), '{}', 'columns on a partitioned table: another column');
select is(pg_temp.captured($$update events set used = 2$$), array['u event:a:*'], 'columns on a partitioned table: the column');
select is(pg_temp.captured($$update events set org_id = 'b'$$), array['u event:a:*', 'u event:b:*'], 'columns on a partitioned table: the key');

-- one partition alone
create table public.logs (org_id text, day date) partition by range (day);
create table public.logs_1 partition of public.logs for values from ('2026-01-01') to ('2027-01-01');
select cache_invalidation.watch('public.logs_1', 'log:{org_id}:{day}');
select is(pg_temp.captured($$insert into logs values ('a', '2026-05-01')$$), array['i log:a:2026-05-01'], 'a watched partition is seen through its parent');

-- a watched table that becomes a partition of a table that is not watched
create table public.once (org_id text, day date);
select cache_invalidation.watch('public.once', 'once:{org_id}');
create table public.whole (org_id text, day date) partition by list (org_id);
create table public.middle partition of public.whole for values in ('a') partition by range (day);
alter table public.middle attach partition public.once for values from ('2026-01-01') to ('2027-01-01');
select is(pg_temp.captured($$insert into whole values ('a', '2026-05-01')$$), array['i once:a'], 'a table that became a partition is seen through its parents');
select is(pg_temp.captured($$truncate whole$$), array['t once:*'], 'its TRUNCATE as well');
alter table public.middle detach partition public.once;
select is(pg_temp.captured($$insert into once select 'b' || i from generate_series(1, 3) as i$$), array['i once:b1', 'i once:b2', 'i once:b3'], 'and when it is a table again');
select is(pg_temp.captured($$truncate once$$), array['t once:*'], 'its TRUNCATE, too');
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'no problem is reported');

-- inheritance: children have the triggers of their parents
create table public.animals (id integer, org_id text not null);
create table public.cats (lives integer) inherits (public.animals);
select cache_invalidation.watch('public.animals', 'animal:{org_id}', columns => '{id}');
select is(pg_temp.captured($$insert into cats values (1, 'a', 9)$$), array['i animal:a'], 'inheritance: a row of a child');
select is(pg_temp.captured($$update animals set id = 2$$), array['u animal:a'], 'a write through the parent');
select is(pg_temp.captured($$update cats set id = 3$$), array['u animal:a'], 'a write to the child');
select is(pg_temp.captured($$update cats set lives = 8$$), '{}', 'columns in a child: another column');
select is(pg_temp.captured($$delete from only animals$$), '{}', 'a write to none of its rows');
select cache_invalidation.watch('public.cats', 'cat:{org_id}');
select is(pg_temp.captured($$update animals set id = 2$$), array['u animal:a', 'u cat:a'], 'a child that is watched itself: a write through the parent');
select is(pg_temp.captured($$update cats set id = 3$$), array['u animal:a', 'u cat:a'], 'and a write to the child');
select is(pg_temp.captured($$update cats set lives = 7$$), array['u cat:a'], 'of a column of its own');
create table public.pets (org_id text, name text);
select cache_invalidation.watch('public.pets', 'pet:{name}');
create table public.kittens (born date) inherits (public.cats, public.pets);
select is(pg_temp.captured($$insert into kittens values (4, 'k', 9, 'Tom', '2026-01-01')$$), array['i animal:k', 'i cat:k', 'i pet:Tom'], 'a child of a child and of another parent, created later');
select is(pg_temp.captured($$delete from pets$$), array['d animal:k', 'd cat:k', 'd pet:Tom'], 'and through that parent');
select is(pg_temp.captured($$truncate only cats$$), array['t animal:*', 't cat:*'], 'TRUNCATE of a child');
select is(pg_temp.captured($$truncate kittens$$), array['t animal:*', 't cat:*', 't pet:*'], 'TRUNCATE of a child of two');
select is(pg_temp.captured($$truncate animals$$), array['t animal:*', 't cat:*', 't pet:*'], 'TRUNCATE through the parent');
create table public.dogs (org_id text not null, id integer, breed text);
insert into dogs values ('d', 5, 'b');
select is(pg_temp.captured($$alter table dogs inherit animals$$), array['- animal:*'], 'a table with rows that becomes a child');
select is(pg_temp.captured($$update dogs set id = 6$$), array['u animal:d'], 'has the triggers, with another order of columns');
select is(pg_temp.captured($$alter table dogs no inherit animals$$), array['- animal:*'], 'and when it is none any more');
select is(pg_temp.captured($$update dogs set id = 7$$), '{}', 'has none');
select is((select count(*) from cache_invalidation.problems()), 0::bigint, 'no problem is reported');
set local session_replication_role = replica;
select is(pg_temp.captured($$insert into kittens values (4, 'r', 9, 'Tom', '2026-01-01')$$), array['i animal:r', 'i cat:r', 'i pet:Tom'], 'session_replication_role = replica, in a child');
reset session_replication_role;
drop event trigger fencepost_ddl;
create table public.lions () inherits (public.cats);
select matches((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'triggers are missing or disabled: public.lions fencepost_public_animals', 'a child that no event trigger has seen is a problem');
select cache_invalidation.refresh();
select is(pg_temp.captured($$insert into lions values (1, 'l', 1)$$), array['i animal:l', 'i cat:l'], 'refresh() makes its triggers');
select cache_invalidation.unwatch('public.animals'), cache_invalidation.unwatch('public.cats');
select is(array(select tgrelid::regclass || ' ' || tgname from pg_trigger where tgname like 'fencepost%' and tgrelid in ('animals'::regclass, 'cats'::regclass, 'kittens'::regclass, 'lions'::regclass) order by 1),
  array['kittens fencepost_public_pets', 'kittens fencepost_public_pets_truncate'], 'unwatch() leaves no trigger on the children but those of another parent');

-- a temporary child, which one session alone sees
create temporary table mice () inherits (public.pets);
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'a temporary child is no problem');
select cache_invalidation.refresh();
select is((select count(*) from pg_trigger where tgrelid = 'mice'::regclass), 0::bigint, 'and refresh() leaves it alone');
drop table mice;

-- a partition whose name is that of a trigger of its parent
create table public.lots (id integer, org_id text) partition by list (id);
create table public.lots_truncate partition of public.lots default;
select cache_invalidation.watch('public.lots', 'lot:{org_id}'), cache_invalidation.watch('public.lots_truncate', 'rest:{org_id}');
select is(pg_temp.captured($$insert into lots values (1, 'a')$$), array['i lot:a', 'i rest:a'], 'a partition called like the parent with _truncate, INSERT');
select is(pg_temp.captured($$truncate lots_truncate$$), array['t lot:*', 't rest:*'], 'TRUNCATE');

select is((select count(*) from cache_invalidation.outbox where error is not null), 0::bigint, 'no target was widened by an error');
select * from finish();
rollback;
