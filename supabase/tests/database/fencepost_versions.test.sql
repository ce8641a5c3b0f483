-- A change is read as what its table's declarations said when it was written; and names what was declared since.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

-- What is in the outbox: operation, target and error, sorted.
create function pg_temp.outbox() returns text[] language sql as $$
  select array(select coalesce(o.op::text, '~') || ' ' || o.target || coalesce(' ' || o.error, '') from cache_invalidation.outbox as o order by o.target, o.op)
$$;
create function pg_temp.captured(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  execute statement;
  return pg_temp.outbox();
end
$$;
-- The same, without what watch(), refresh() and DDL invalidate themselves
create function pg_temp.captured_then(statement text, later text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  execute statement;
  execute later;
  delete from cache_invalidation.changes where version is null;
  return pg_temp.outbox();
end
$$;

create table public.lines (id integer primary key, org text, kind text, note text, used integer default 0);
select cache_invalidation.watch('public.lines', 'line:{org}:{id}');
insert into lines values (1, 'a', 'k', 'n'), (2, null, 'k', 'n');

-- what changes of the present version say
select is(pg_temp.captured('update lines set used = 1'), array['u line:*', 'u line:a:1'], 'the present version');
select is((select count(distinct c.xmin::text) from cache_invalidation.changes as c), 1::bigint, 'changes take no transaction number of their own');
select is((select min(c.xmin::text) from cache_invalidation.changes as c), (select l.xmin::text from lines as l where l.id = 1), 'but that of their statement');
select is((select count(distinct c.version) from cache_invalidation.changes as c), 1::bigint, 'all name one version');
select cache_invalidation.watch('public.lines', 'line:{org}:{id}'), cache_invalidation.refresh();
select is((select count(distinct c.version) from (select version from cache_invalidation.changes union select v.id from cache_invalidation.versions as v where v.rel = 'public.lines'::regclass and v.retired is null) as c(version) where c.version is not null), 1::bigint,
  'watch() and refresh() that change nothing make no other version');

-- written before a declaration
select is(pg_temp.captured_then('update lines set used = 2 where id = 1', $$select cache_invalidation.watch('public.lines', 'kind:{kind}')$$), array['u kind:*', 'u line:a:1'], 'a declaration that comes later: its wildcard');
select is(pg_temp.captured('update lines set used = 3 where id = 1'), array['u kind:k', 'u line:a:1'], 'and then its targets');
select is(pg_temp.captured_then('update lines set used = 4 where id = 1', $$select cache_invalidation.watch('public.lines', 'kind:{kind}', columns => '{note}')$$), array['u kind:*', 'u kind:k', 'u line:a:1'], 'one that becomes another: its wildcard');
select is(pg_temp.captured_then('update lines set used = 5 where id = 1', $$select cache_invalidation.watch('public.lines', 'kind:{kind}', columns => '{note,used}')$$), array['u kind:*', 'u line:a:1'], 'one with more columns: its wildcard');
select is(pg_temp.captured_then('update lines set used = 6 where id = 1', $$select cache_invalidation.unwatch('public.lines', 'kind:{kind}')$$), array['u kind:k', 'u line:a:1'], 'one that goes: its targets all the same');
select is(pg_temp.captured_then('update lines set used = 7 where id = 1', $$select cache_invalidation.watch('public.lines', 'kind:{kind}'); select cache_invalidation.unwatch('public.lines', 'kind:{kind}')$$), array['u kind:*', 'u line:a:1'], 'one that comes and goes: its wildcard');
select is(pg_temp.captured_then('update lines set used = 8 where id = 1', $$select cache_invalidation.watch('public.lines', 'line:{org}:{id}', min_interval => '1 minute')$$), array['u line:a:1'], 'another interval is no other declaration');
select is(pg_temp.captured_then('update lines set used = 9 where id = 1', $$select cache_invalidation.unwatch('public.lines')$$), array['u line:a:1'], 'the last that goes');
select cache_invalidation.watch('public.lines', 'line:{org}:{id}');
select is(pg_temp.captured_then('update lines set used = 10 where id = 1', $$select cache_invalidation.watch('public.lines', 'kind:{kind}', columns => '{note}'); update lines set note = 'o' where id = 1$$), array['u kind:*', 'u kind:k', 'u line:a:1'], 'a transaction over two versions');
select is((select count(*) from (select target from cache_invalidation.outbox group by target, watch_id having count(*) > 1) as twice), 0::bigint, 'names each target once for each watch');

-- what is not known
savepoint known;
select is(pg_temp.captured_then('update lines set used = 11 where id = 1', 'update cache_invalidation.changes set version = 1'), array['u * 02000'], 'an unknown version is everything');
select is(pg_temp.captured_then('update lines set used = 12 where id = 1; truncate lines', 'delete from cache_invalidation.versions'), array['t * 02000'], 'also of several changes');
rollback to known;

-- what the catalog says by now, without event triggers (a savepoint stands for another transaction)
drop event trigger fencepost_ddl;
drop event trigger fencepost_drop;
drop event trigger fencepost_rewrite;
select cache_invalidation.unwatch('public.lines'), cache_invalidation.watch('public.lines', 'line:{org}'), cache_invalidation.watch('public.lines', 'kind:{kind}', columns => '{note}');
savepoint unseen;
select is(pg_temp.captured_then($$update lines set note = 'p' where id = 1$$, 'alter table lines rename column org to organisation'), array['u kind:k', 'u line:* 42804'], 'a column that was renamed since widens its own declaration');
rollback to unseen;
select is(pg_temp.captured_then($$update lines set note = 'p' where id = 1$$, 'alter table lines rename column org to x; alter table lines rename column kind to org; alter table lines rename column x to kind'), array['u kind:* 42804', 'u line:* 42804'], 'columns that have changed places');
rollback to unseen;
select is(pg_temp.captured_then($$update lines set note = 'p' where id = 1$$, 'alter table lines alter column org type varchar(30); alter table lines alter column org type text'), array['u kind:k', 'u line:* 42804'], 'a type there and back');
rollback to unseen;
select is(pg_temp.captured_then($$update lines set note = 'p' where id = 1$$, 'alter table lines drop column org; alter table lines add column org text'), array['u kind:k', 'u line:* 42804'], 'another column of the same name');
rollback to unseen;
select is(pg_temp.captured_then($$update lines set note = 'p' where id = 1$$, 'alter table lines drop column note'), array['u kind:* 42804', 'u line:a'], 'a column that is only compared');
rollback to unseen;
select is(pg_temp.captured_then($$update lines set note = 'p' where id = 1$$, 'alter table lines alter column used type bigint; alter table lines add column more text; alter table lines rename to rows'), array['u kind:k', 'u line:a'], 'what no declaration reads makes no difference');
rollback to unseen;
select is(pg_temp.captured_then($$update lines set note = 'p' where id = 1$$, 'drop table lines'), array['u kind:* 42804', 'u line:* 42804'], 'a table that was dropped');
rollback to unseen;
select is(pg_temp.captured_then($$update lines set note = 'p' where id = 1$$, 'alter table lines rename column org to organisation; select cache_invalidation.refresh()'), array['u kind:k', 'u line:* 42804'], 'a version stays what it was when another follows');
rollback to unseen;
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'no problem is left');

-- the function with a version's queries
do $$ begin execute (select format('drop function cache_invalidation.%I', cache_invalidation.target_function(v.id)) from cache_invalidation.versions as v where v.rel = 'public.lines'::regclass and v.retired is null limit 1); end $$;
select is(pg_temp.captured($$update lines set note = 'p' where id = 1$$), array['u kind:* 42883', 'u line:* 42883'], 'without the function everything widens');
select is((select array_agg(problem) from cache_invalidation.problems() where watch_id is not null), array['the capture function of public.lines is missing or out of date'], 'which is a problem');
select cache_invalidation.refresh();
select is(pg_temp.captured($$update lines set note = 'q' where id = 1$$), array['u kind:k', 'u line:a'], 'refresh() makes it again');

select cache_invalidation.create_event_triggers();

-- refresh() looks only at tables where something does not match, which is not in the catalog alone
create function pg_temp.present() returns bigint language sql as $$
  select v.id from cache_invalidation.versions as v where v.rel = 'public.lines'::regclass and v.retired is null limit 1
$$;
create temporary table present as select pg_temp.present() as id;
select cache_invalidation.refresh();
select is(pg_temp.present(), (select p.id from present as p), 'refresh() with nothing to do');
create function cache_invalidation.of_a_later_migration() returns integer language sql return 1;
select is(pg_temp.captured('select cache_invalidation.refresh()'), '{}', 'refresh() after a change of the engine invalidates nothing');
select isnt(pg_temp.present(), (select p.id from present as p), 'and makes all versions again');
create table public.owners (id integer primary key, user_id text);
create table public.owned (id integer primary key, owner_id integer);
select cache_invalidation.watch('public.owned', 'own:{o.user_id}', "join" => 'public.owners o on o.id = row.owner_id');
delete from cache_invalidation.watches where implied_by is not null and rel = 'public.owners'::regclass;
select cache_invalidation.refresh();
select is((select array_agg(target) from cache_invalidation.watches where rel = 'public.owners'::regclass), array['own:{user_id}'], 'refresh() implies again what is missing');
update cache_invalidation.watches set declared_oid = 1 where rel = 'public.lines'::regclass;
select cache_invalidation.refresh();
select is((select count(*) from cache_invalidation.watches where declared_oid <> rel), 0::bigint, 'refresh() after a restore');
create foreign data wrapper nothing;
create server nowhere foreign data wrapper nothing;
create foreign table public.far_owners () inherits (public.owners) server nowhere;
select cache_invalidation.refresh();
select is((select array_agg(split_part(problem, ': ', 2)) from cache_invalidation.problems() where watch_id is not null), array['public.owners is joined, and has foreign tables below it'], 'refresh() sees what a declaration no longer can');
drop foreign table public.far_owners;
select cache_invalidation.refresh();
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'and what it can again');

select * from finish();
rollback;
