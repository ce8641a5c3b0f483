-- Publications that publish the engine's own tables: nothing that the worker does fails for it.
\ir fencepost_preamble.psql

select is_empty($$select c.oid::regclass::text from pg_class as c
  where c.relnamespace in ('cache_invalidation'::regnamespace, 'cache_invalidation_queue'::regnamespace) and c.relkind in ('r', 'p') and c.relreplident <> 'f'
    and not exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary)$$, 'Postgres can tell every published row, those of the queue too');

create table public.published (id integer primary key, org text);
create function pg_temp.check_publication(what text) returns setof text language plpgsql as $$
begin
  delete from cache_invalidation.pending;
  execute 'create publication everything for ' || what;
  perform cache_invalidation.watch('public.published', 'org:{org}'), cache_invalidation.unwatch('public.published'), cache_invalidation.watch('public.published', 'org:{org}');
  insert into public.published values (1, 'a');
  return next is(cache_invalidation.acknowledge(array(select distinct c.xid from cache_invalidation.changes as c)) > 0, true, what || ': acknowledge()');
  update public.published set org = 'b';
  -- how many depends on whether another transaction of the server began after this one
  return next isnt(cache_invalidation.discard(pg_current_snapshot(), 1), null, what || ': discard()');
  -- compact() leaves one change as it is
  update public.published set org = 'c';
  update public.published set org = 'd';
  insert into cache_invalidation.pending (target, why, due_at) values ('org:a', 'refused', now());
  update cache_invalidation.pending set attempts = 1;
  return next is(cache_invalidation.compact(0) > 0, true, what || ': compact()');
  return next isnt(cache_invalidation.new_epoch(), null, what || ': new_epoch()');
  drop table public.published;
  create table public.published (id integer primary key, org text);
  return next is(cache_invalidation.refresh() > 0, true, what || ': refresh(), of a table that was dropped');
  return next is(cache_invalidation.unwatch('public.published'), 1, what || ': unwatch()');
  drop publication everything;
end
$$;
set local client_min_messages = error; -- wal_level
select pg_temp.check_publication(p.what) from unnest('{all tables,tables in schema cache_invalidation}'::text[]) as p(what);

select * from finish();
rollback;
