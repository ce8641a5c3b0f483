-- Fencepost: settling a backlog with a new epoch (docs/protocol.md#backlog), and databases without a worker.

-- Starts a new epoch; returns its value. (A copy of the schema alone has no row.)
create function cache_invalidation.new_epoch() returns text language sql set search_path = pg_catalog, pg_temp
as $$
  insert into cache_invalidation.epoch default values
  on conflict (singleton) do update set value = excluded.value
  returning value
$$;

-- Removes what is pending and visible in the snapshot, and as many changes as max_rows. Returns how many changes.
create function cache_invalidation.discard(snapshot pg_snapshot, max_rows integer default 50000) returns bigint language sql
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
  delete from cache_invalidation.pending as p where p.version < pg_snapshot_xmax(snapshot) and pg_visible_in_snapshot(p.version, snapshot);
  with removed as (
    delete from cache_invalidation.changes as c
    where c.ctid = any (array(
      select old.ctid from cache_invalidation.changes as old
      where old.xid < pg_snapshot_xmax(snapshot) and pg_visible_in_snapshot(old.xid, snapshot) order by old.xid limit max_rows))
    returning 1
  )
  select count(*) from removed
$$;

-- For a database without a worker: replaces the changes and what is pending by one change for `*`, for which a later worker starts a new
-- epoch. It does nothing for at most more_than changes, and keeps those that are committed while it runs. Returns how many changes
-- were replaced. Where pg_cron is installed it runs every hour: see the end of this file.
create function cache_invalidation.compact(more_than bigint default 1) returns bigint language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  removed bigint;
begin
  perform from cache_invalidation.changes offset greatest(more_than, 1) limit 1;
  if not found then
    return 0;
  end if;
  delete from cache_invalidation.changes;
  get diagnostics removed = row_count;
  if removed > 0 then
    delete from cache_invalidation.pending;
    perform cache_invalidation.invalidate('*');
  end if;
  return removed;
end
$$;

-- Stops capture for a database that has no worker and needs none: writes leave nothing. problems() says so as long as it lasts.
create function cache_invalidation.pause() returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update cache_invalidation.epoch as e set paused_at = coalesce(e.paused_at, clock_timestamp());
  perform cache_invalidation.refresh();
end
$$;

-- Captures again. It waits for the writers that are open, as watch() does for a new table, and then invalidates everything.
create function cache_invalidation.resume_capture() returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update cache_invalidation.epoch as e set paused_at = null;
  perform cache_invalidation.refresh();
  perform cache_invalidation.invalidate('*');
end
$$;

-- A preview or a local database may never have a worker. Where one runs, it settles so many changes sooner.
do $$
begin
  if exists (select from pg_catalog.pg_extension as e where e.extname = 'pg_cron') then
    perform cron.schedule('fencepost-compact', '17 * * * *', 'select cache_invalidation.compact(1000000)');
  end if;
exception
  when insufficient_privilege then
    raise notice 'without a worker nothing bounds cache_invalidation.changes: % may not use pg_cron', current_user
      using hint = 'Call cache_invalidation.compact() now and then, or cache_invalidation.pause().';
end
$$;
