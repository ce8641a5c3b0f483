-- Fencepost: settling a backlog with a new epoch (docs/protocol.md#backlog), and databases without a worker.

-- Starts a new epoch; returns its value. (A copy of the schema alone has no row.)
create function cache_invalidation.new_epoch() returns text language sql set search_path = pg_catalog, pg_temp
as $$
  insert into cache_invalidation.epoch default values
  on conflict (singleton) do update set value = excluded.value, started_at = excluded.started_at
  returning value
$$;

-- Removes at least max_rows changes visible in the snapshot, whole transactions, or all of them; and what is pending and as old, once
-- there are no more. Returns how many changes.
create function cache_invalidation.discard(snapshot pg_snapshot, max_rows integer default 50000) returns bigint language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  removed bigint;
begin
  delete from cache_invalidation.changes as c
    where c.ctid = any (array(
      select old.ctid from cache_invalidation.changes as old
      where old.xid < pg_snapshot_xmax(discard.snapshot) and pg_visible_in_snapshot(old.xid, discard.snapshot)
      order by old.xid
      limit max_rows
    ));
  get diagnostics removed = row_count;
  delete from cache_invalidation.pending as p
    where p.version < pg_snapshot_xmax(discard.snapshot) and pg_visible_in_snapshot(p.version, discard.snapshot);
  return removed;
end
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
-- Waits for no table longer than watch() does.
create function cache_invalidation.pause() returns void language plpgsql
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  changed oid;
  previous_timeout constant text := cache_invalidation.begin_declaring();
begin
  update cache_invalidation.epoch as e set paused_at = coalesce(e.paused_at, clock_timestamp());
  for changed in select distinct w.rel::oid from cache_invalidation.watches as w loop
    perform cache_invalidation.bring_in_line(changed);
  end loop;
  perform set_config('lock_timeout', previous_timeout, true);
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
