-- Fencepost 9/9, part 1: settling a backlog with a new epoch. An entry is a hit only under the epoch that it was loaded under, so a
-- new epoch invalidates the whole cache with one command. Rows are never dropped for their age. A backlog is settled in four steps:
--
--   1. S := select pg_current_snapshot()          what has been committed until now
--   2. E := select cache_invalidation.new_epoch()
--   3. SET the epoch and the heartbeat to E in Redis, in one transaction, confirmed
--   4. select cache_invalidation.discard(S, n)    until it returns less than n: exactly the rows visible in S
--
-- An entry that is a hit after step 3 was loaded after step 3, hence after S, and has seen all that S shows. If the worker dies in
-- between, the rows are still there. See docs/protocol.md#backlog.

-- Starts a new epoch; returns its value. (A copy of the schema alone has no row.)
create function cache_invalidation.new_epoch() returns text
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into cache_invalidation.epoch (value) values (pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''))
  on conflict (singleton) do update set value = excluded.value, started_at = excluded.started_at
  returning value
$$;

-- Removes at most max_rows rows visible in the snapshot, and what is pending and as old; returns how many rows of the outbox.
create function cache_invalidation.discard(snapshot pg_snapshot, max_rows integer default 50000) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  removed bigint;
begin
  delete from cache_invalidation.outbox as o
    where (o.xid, o.id) in (
      select old.xid, old.id from cache_invalidation.outbox as old
      where old.xid < pg_snapshot_xmax(discard.snapshot) and pg_visible_in_snapshot(old.xid, discard.snapshot)
      order by old.xid, old.id
      limit max_rows
    );
  get diagnostics removed = row_count;
  delete from cache_invalidation.pending as p
    where p.version < pg_snapshot_xmax(discard.snapshot) and pg_visible_in_snapshot(p.version, discard.snapshot);
  return removed;
end
$$;

-- For a database without a worker: replaces the outbox and what is pending by one row for `*`, for which a later worker starts a new epoch. Call
-- it by hand or from pg_cron. It does nothing for at most more_than rows, and keeps rows that are committed while it runs. Returns
-- how many rows were replaced.
create function cache_invalidation.compact(more_than bigint default 1) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  removed bigint;
begin
  perform from cache_invalidation.outbox offset greatest(more_than, 1) limit 1;
  if not found then
    return 0;
  end if;
  delete from cache_invalidation.outbox;
  get diagnostics removed = row_count;
  if removed > 0 then
    delete from cache_invalidation.pending;
    perform cache_invalidation.invalidate('*');
  end if;
  return removed;
end
$$;
