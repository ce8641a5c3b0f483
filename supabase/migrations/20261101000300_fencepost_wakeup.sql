-- Fencepost 3/9: waking the worker. NOTIFY takes a lock of the whole instance at commit, so writers notify only while the worker
-- sleeps. The sleeping worker holds one advisory lock (WAKE_LOCK, below) exclusively; a writer asks for it in shared mode:
--
--   the lock is held   the writer's try fails, so the writer sends NOTIFY
--   the lock is free   the try succeeds; the writer sends nothing, because the worker polls
--
-- Promise: while the worker sleeps, every committed row is followed by a notification. For this a writer asks after each insert,
-- in the same transaction, and never waits for the lock. Why it holds, and the other rules: docs/protocol.md#wakeup
--
-- `set local cache_invalidation.bell = off` silences NOTIFY for PREPARE TRANSACTION, which refuses it. The writer still takes the
-- lock, which keeps an awake worker awake. A sleeping worker finds the row at its next fallback poll.

-- WAKE_LOCK, held by the sleeping worker. The only other copy of the two numbers is worker/src/db/names.ts.
create function cache_invalidation.doorbell_lock() returns bigint
language sql immutable parallel safe
return 461870001::bigint;

-- LEADER_LOCK, held by the leading worker.
create function cache_invalidation.leadership_lock() returns bigint
language sql immutable parallel safe
return 461870002::bigint;

-- Sends the notification, unless the server's notification queue is half full: a NOTIFY without room in it fails the writer's
-- transaction at commit, and any session that listens inside a long transaction fills it. The worker then finds the row at
-- its next fallback poll.
create function cache_invalidation.ring() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_catalog.current_setting('cache_invalidation.bell', true) is distinct from 'off'
    and pg_catalog.pg_notification_queue_usage() < 0.5
  then
    perform pg_catalog.pg_notify('cache_invalidation', '');
  end if;
end
$$;

-- Invalidates one target by hand: an exact key, a pattern, or `*` for everything. The segments must be encoded; there are at most
-- 32 of them. Returns the id of the outbox row.
create function cache_invalidation.invalidate(target text) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  new_id bigint;
begin
  if target is null or target = '' or pg_catalog.octet_length(target) > 8192 then
    raise exception 'a target is a key or a pattern of at most 8192 bytes'
      using errcode = 'invalid_parameter_value', hint = 'For example quota:org-1:* or session:42:state.';
  end if;
  -- Each prefix of a key has a fence: see supabase/functions/_shared/cache/protocol/fences.ts
  if pg_catalog.regexp_count(target, ':') >= 32 then
    raise exception 'a target has at most 32 segments'
      using errcode = 'invalid_parameter_value', hint = 'For example quota:org-1:* or session:42:state.';
  end if;
  insert into cache_invalidation.outbox as o (target) values (invalidate.target) returning o.id into new_id;
  if not pg_catalog.pg_try_advisory_xact_lock_shared(cache_invalidation.doorbell_lock()) then
    perform cache_invalidation.ring();
  end if;
  return new_id;
end
$$;
