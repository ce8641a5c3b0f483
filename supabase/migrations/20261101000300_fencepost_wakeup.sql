-- Fencepost: waking the worker. NOTIFY takes a lock of the whole instance at commit, so writers notify only while the worker sleeps.
--
-- Promise: while the worker sleeps, every committed change is followed by a notification. The rules: docs/protocol.md#wakeup
--
-- `set local cache_invalidation.bell = off` silences NOTIFY for PREPARE TRANSACTION, which refuses it. The next fallback poll finds the row.

-- WAKE_LOCK, held by the sleeping worker. The only other copy of the two numbers is worker/src/db/names.ts.
create function cache_invalidation.doorbell_lock() returns bigint language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 461870001::bigint;

-- LEADER_LOCK, held by the leading worker.
create function cache_invalidation.leadership_lock() returns bigint language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 461870002::bigint;

-- Sends the notification, unless the server's notification queue is half full: a NOTIFY without room in it fails the writer's
-- transaction at commit, and any session that listens inside a long transaction fills it. The worker then finds the row at
-- its next fallback poll.
create function cache_invalidation.ring() returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('cache_invalidation.bell', true) is distinct from 'off'
    and pg_notification_queue_usage() < 0.5
  then
    perform pg_notify('cache_invalidation', '');
  end if;
end
$$;

-- Raises for a target of a type that the cache keeps for itself. The other copy of the two names is RESERVED_FIRST_SEGMENTS in
-- supabase/functions/_shared/cache/protocol/fences.ts.
create function cache_invalidation.check_type(target text) returns void language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  if split_part(target, ':', 1) in ('fence', 'fencepost') then
    raise exception 'the type % of the target % is reserved: the cache keeps its fences and its heartbeat there', split_part(target, ':', 1), quote_literal(target)
      using errcode = 'invalid_parameter_value', hint = 'Give the type another name, for example fences:{id}.';
  end if;
end
$$;

-- Invalidates one target by hand: an exact key, a pattern, or `*` for everything. The segments must be encoded; there are at most
-- 32 of them, because each prefix of a key has a fence. Returns the number of its transaction, whose changes go when Redis
-- has confirmed them.
create function cache_invalidation.invalidate(target text) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(target, '') = '' or octet_length(target) > 8192 or regexp_count(target, ':') >= 32 then
    raise exception 'a target is a key or a pattern of at most 8192 bytes and 32 segments'
      using errcode = 'invalid_parameter_value', hint = 'For example quota:org-1:* or session:42:state.';
  end if;
  perform cache_invalidation.check_type(target);
  insert into cache_invalidation.changes (change) values (invalidate.target);
  if not pg_try_advisory_xact_lock_shared(cache_invalidation.doorbell_lock()) then
    perform cache_invalidation.ring();
  end if;
  return pg_current_xact_id()::text::bigint;
end
$$;
