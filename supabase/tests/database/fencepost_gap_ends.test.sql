-- What ends a gap invalidates the type in the same transaction: everything that begins to be captured, or comes and goes with rows.
\ir fencepost_preamble.psql

-- declarations
create table public.owners (id integer primary key, user_id text);
create table public.things (id integer primary key, org_id text, note text, owner_id integer constraint things_owner references public.owners);
select is(pg_temp.captured($$select cache_invalidation.watch('public.things', 'thing:{id}', columns => '{note}')$$), array['- thing:*'], 'a first watch');
select is(pg_temp.captured($$select cache_invalidation.watch('public.things', 'org:{org_id}')$$), array['- org:*'], 'a second one: its own type, not the other''s');
select is(pg_temp.captured($$select cache_invalidation.watch('public.things', 'thing:{id}', columns => '{note,org_id}')$$), array['- thing:*'], 'other columns');
select is(pg_temp.captured($$select cache_invalidation.watch('public.things', 'user:{o.user_id}', join => 'public.owners o on o.id = row.owner_id')$$), array['- user:*'], 'a join: the child and its parent begin');
select is(pg_temp.captured($$select cache_invalidation.watch('public.things', 'user:{o.user_id}', join => 'public.owners o on o.id = row.id')$$), array['- user:*'], 'another join');
select is(pg_temp.captured($$select cache_invalidation.watch('public.owners', 'owner:{user_id}')$$), array['- owner:*'], 'a watch of a parent that was captured already');
select is(pg_temp.captured($$select cache_invalidation.unwatch('public.things', 'thing:{id}')$$), '{}', 'unwatch(): nothing');
select is(pg_temp.captured($$select cache_invalidation.watch('public.things', 'thing:{id}')$$), array['- thing:*'], 'the same watch again');
select is(pg_temp.captured('select cache_invalidation.refresh()'), '{}', 'refresh() with nothing to do');
select is(pg_temp.captured('alter table public.things rename column org_id to organisation; select cache_invalidation.refresh()'), array['- org:*', '- thing:*', '- user:*'], 'a column renamed');
select is(pg_temp.captured('alter table public.things disable trigger user; alter table public.things enable trigger user; select cache_invalidation.refresh()'), array['- org:*', '- thing:*', '- user:*'], 'triggers that were disabled: each type of the table');
select is(pg_temp.problems(), '{}', 'no problem of any');

-- a column that was filtered by and is gone
select is(pg_temp.captured($$alter table public.things alter column note type varchar$$), '{}', 'a type that keeps its text is no gap');
select is(pg_temp.captured($$alter table public.things alter column organisation type integer using 1$$), array['- org:*', '- thing:*', '- user:*'], 'rows that are rewritten: each type of the table');

-- A statement that no event trigger sees, and what refresh() invalidates then. (Where they are still missing it is everything: fencepost_gap_names.)
create function pg_temp.unseen(statement text) returns text[] language plpgsql as $$
begin
  alter event trigger fencepost_ddl disable;
  alter event trigger fencepost_rewrite disable;
  execute statement;
  alter event trigger fencepost_ddl enable always;
  alter event trigger fencepost_rewrite enable always;
  -- as if by a role whose statements fire no event trigger: nothing tells of that
  perform cache_invalidation.keep_catalog_snapshot('{0}');
  return pg_temp.captured('select cache_invalidation.refresh()');
end
$$;
select is(pg_temp.unseen('alter table public.things alter column organisation type bigint using 2'), array['- org:*', '- thing:*', '- user:*'], 'that no event trigger saw: refresh() invalidates each type');
select is(pg_temp.unseen('alter table public.owners alter column user_id type varchar using ''v'''), array['- owner:*', '- user:*'], 'of a joined table');
select is(pg_temp.problems(), '{}', 'no problem of any');

-- partitions
create table public.whole (id integer, org_id text) partition by list (id);
create table public.whole_1 partition of public.whole for values in (1);
select cache_invalidation.watch('public.whole', 'whole:{org_id}');
insert into public.whole values (1, 'a');
select is(pg_temp.unseen('alter table public.whole_1 disable trigger all; alter table public.whole_1 enable trigger all'), array['- whole:*'], 'clones of a partition that were disabled');
select is(pg_temp.unseen('drop trigger fencepost_public_whole on public.whole'), array['- whole:*'], 'a trigger that was dropped with its clones');
select is(pg_temp.unseen('drop trigger fencepost_public_whole_truncate on public.whole_1'), array['- whole:*'], 'a partition''s TRUNCATE trigger that was dropped');
create table public.whole_2 (id integer, org_id text);
insert into public.whole_2 values (2, 'b');
select is(pg_temp.unseen('alter table public.whole attach partition public.whole_2 for values in (2)'), array['- whole:*'], 'ATTACH that no event trigger saw, with rows');
select is(pg_temp.unseen('alter table public.whole detach partition public.whole_2'), array['- whole:*'], 'and DETACH');
select is(pg_temp.captured('create table public.whole_3 partition of public.whole for values in (3); insert into public.whole values (3, ''c'')'), array['i whole:c'], 'a new partition is captured from its first row');
select is(pg_temp.captured('truncate public.whole_3'), array['t whole:*'], 'and TRUNCATE of it');

-- inheritance: the children are captured by themselves
create table public.parent (id integer, org_id text);
select cache_invalidation.watch('public.parent', 'heir:{org_id}');
select is(pg_temp.captured('create table public.child () inherits (public.parent)'), '{}', 'a new child has no rows');
select is(pg_temp.captured('insert into public.child values (1, ''a'')'), array['i heir:a'], 'a write to it is captured');
select is(pg_temp.captured('update public.parent set org_id = ''b'''), array['u heir:a', 'u heir:b'], 'and a write through the parent');
select is(pg_temp.captured('truncate public.child'), array['t heir:*'], 'and TRUNCATE of it');
insert into public.child values (1, 'a');
select is(pg_temp.captured('alter table public.child no inherit public.parent'), array['- heir:*'], 'a child that goes with rows');
select is(pg_temp.captured('insert into public.child values (1, ''z'')'), '{}', 'and is not captured any more');
select is(pg_temp.captured('alter table public.child inherit public.parent'), array['- heir:*'], 'one that comes with rows');
select is(pg_temp.captured('drop table public.child'), array['- heir:*'], 'one that is dropped');
alter event trigger fencepost_ddl disable;
create table public.unseen () inherits (public.parent);
select is((pg_temp.problems())[1], 'error: triggers are missing or disabled: public.unseen fencepost_public_parent, public.unseen fencepost_public_parent_truncate', 'a child that no event trigger saw: its writes are missed');
alter event trigger fencepost_ddl enable always;
select is(pg_temp.unseen('insert into public.unseen values (1, ''a'')'), array['- heir:*'], 'until refresh()');
select is(pg_temp.problems(), '{}', 'no problem of any');

-- materialized views
create materialized view public.report as select count(*) as number from public.things;
select is(pg_temp.captured($$select cache_invalidation.watch('public.report', 'report:*')$$), array['- report:*'], 'a materialized view can be watched');
select is(pg_temp.captured('refresh materialized view public.report'), array['- report:*'], 'REFRESH invalidates its type');
create unique index on public.report (number);
select is(pg_temp.captured('refresh materialized view concurrently public.report'), array['- report:*'], 'CONCURRENTLY, too');
select is(pg_temp.captured('select cache_invalidation.refresh()'), '{}', 'refresh() with nothing to do: nothing');
select is(pg_temp.problems(), '{}', 'no problem of it');
alter materialized view public.report rename to reports;
select is(pg_temp.captured('refresh materialized view public.reports'), array['- report:*'], 'renamed, it is still the one');
select throws_ok($$select cache_invalidation.watch('public.reports', 'report:{number}')$$, '0A000', null, 'it has no columns for keys');
select throws_ok($$select cache_invalidation.watch('public.reports', 'report:*', columns => '{number}')$$, '0A000', null, 'nor for columns');
create materialized view public.other_report as select 1 as number;
select is(pg_temp.captured('refresh materialized view public.other_report'), '{}', 'one that is not watched: nothing');
alter event trigger fencepost_ddl disable;
select throws_ok($$select cache_invalidation.watch('public.other_report', 'other:*')$$, '0A000', null, 'without the event trigger none can be watched');
alter event trigger fencepost_ddl enable always;
create function pg_temp.check_unseen(statement text) returns setof text language plpgsql as $$
begin
  execute statement;
  return next is((pg_temp.problems())[1], 'error: nothing sees when public.reports is refreshed: the event trigger fencepost_ddl is missing or disabled', statement);
  return next is(pg_temp.captured('select cache_invalidation.create_event_triggers()'), (select array_agg(distinct '- ' || cache_invalidation.type_wildcard(w.target) order by '- ' || cache_invalidation.type_wildcard(w.target)) from cache_invalidation.watches as w), statement || ': create_event_triggers() ends the gap and invalidates every type');
  return next is(pg_temp.problems(), '{}', statement || ': no problem any more');
end
$$;
select pg_temp.check_unseen('alter event trigger fencepost_ddl disable');
select pg_temp.check_unseen('drop event trigger fencepost_ddl');
select is(pg_temp.captured('select cache_invalidation.create_event_triggers()'), '{}', 'create_event_triggers() with nothing to do: nothing');
select is(pg_temp.captured('drop materialized view public.reports'), array['- report:*'], 'DROP MATERIALIZED VIEW');
create materialized view public.reports as select 1 as number;
select is(pg_temp.problems(), array['error: public.reports is not watched for ''report:*'', as the table was that had its name and was dropped'], 'created again: it is not watched');
select is(pg_temp.captured('select cache_invalidation.refresh()'), array['- report:*'], 'refresh() watches it');
select is(pg_temp.captured('refresh materialized view public.reports'), array['- report:*'], 'and REFRESH is seen');

-- paused capture
select is(pg_temp.captured('select cache_invalidation.pause()'), '{}', 'pause(): nothing');
select is(pg_temp.captured($$insert into public.things (id) values (7); insert into public.whole values (1, 'p'); truncate public.parent$$), '{}', 'writes leave nothing');
select matches(pg_temp.problems()::text, '^\{"error: capture has been paused since [^"]*: writes are not captured"\}$', 'problems() says that, and only that');
select isnt(paused_at, null, 'and so does the view status') from cache_invalidation.status;
create table public.later (id integer, org_id text);
select lives_ok($$select cache_invalidation.watch('public.later', 'later:{org_id}')$$, 'watch() while it is paused');
select is(pg_temp.captured($$insert into public.later values (1, 'a')$$), '{}', 'captures nothing either');
select is(pg_temp.captured('select cache_invalidation.pause()'), '{}', 'pause() again: nothing');
select is(pg_temp.captured('select cache_invalidation.refresh()'), '{}', 'refresh() does not end it');
select alike(pg_temp.captured('select cache_invalidation.resume_capture()')::text, '%"- *"%', 'resume_capture() invalidates everything');
select is(pg_temp.captured($$insert into public.later values (1, 'a'); insert into public.whole values (1, 'p')$$), array['i later:a', 'i whole:p'], 'and writes are captured');
select is(pg_temp.problems(), '{}', 'no problem any more');
select is(paused_at, null, 'nor in the view status') from cache_invalidation.status;
set local quote_all_identifiers = on;
select is(pg_temp.captured('select cache_invalidation.pause()'), '{}', 'pause() in a session that quotes all names: nothing');
reset quote_all_identifiers;
select is(current_setting('lock_timeout'), '0', 'which keeps its lock_timeout');
select is((select count(*) from cache_invalidation.problems()), 1::bigint, 'it is paused, and nothing was renamed');
select is((select array_agg(p.proname::text) from pg_proc as p where p.pronamespace = 'cache_invalidation'::regnamespace
    and p.prosrc ~ '\mbegin_declaring\(' and p.proname <> 'bring_in_line_within_ddl'
    and not (p.proconfig @> '{quote_all_identifiers=off,standard_conforming_strings=on}' and p.prosrc ~ 'set_config\(''lock_timeout'', previous_timeout, true\)')),
  null, 'what changes declarations sets how names are quoted, and puts lock_timeout back');

-- a database without a worker, at a glance
select cache_invalidation.resume_capture();
delete from cache_invalidation.changes;
select results_eq('select rows, oldest, pending, bytes > 0, confirmed_at, problems from cache_invalidation.status',
  'values (0::bigint, null::timestamptz, 0::bigint, true, null::timestamptz, 0::bigint)', 'the view status of a database that nothing has happened to');
insert into public.later values (2, 'a'), (3, 'b');
insert into cache_invalidation.pending (target, why, due_at) values ('later:a', 'throttled', now());
update cache_invalidation.epoch set confirmed_at = '2026-11-01';
alter table public.later disable trigger user;
select results_eq('select s.rows, s.oldest, s.pending, s.confirmed_at, s.problems from cache_invalidation.status as s',
  $$select 2::bigint, min(c.at), 1::bigint, timestamptz '2026-11-01', 1::bigint from cache_invalidation.changes as c$$,
  'what waits and since when, what is pending, when a worker was last there, and how many problems there are');

select * from finish();
rollback;
