-- Fencepost 3/9: the doorbell. A NOTIFY takes a lock of the whole instance at commit, so writers ring only when the
-- worker sleeps. Postgres's own lock table says whether it does:
--
--   the worker sleeps    it holds K exclusively: try_shared fails, the writer rings
--   the worker is awake  K is free: try_shared succeeds, the writer is silent, the worker polls every few milliseconds
--
-- Invariant: whoever holds K exclusively knows that every writer that kept silent has ended, and so sees its rows;
-- Postgres makes a commit visible before it releases the transaction's locks. So "take K, then drain until empty, then
-- sleep" misses nobody: whoever inserts later finds K taken and rings. Hence the rules: ring after the insert, in the same
-- transaction, each time anew (ROLLBACK TO SAVEPOINT drops the lock), and never wait for K.
--
-- `set local cache_invalidation.bell = off` silences NOTIFY, for PREPARE TRANSACTION, which refuses it. The lock is
-- taken nevertheless: it keeps an awake worker awake. A sleeping one finds the row at its next fallback poll.

-- K: held by the sleeping worker. The worker's only copy of the two numbers is worker/src (see docs/capture.md).
create function cache_invalidation.doorbell_lock() returns bigint
language sql immutable parallel safe
return 461870001::bigint;

-- S: held by the leading worker.
create function cache_invalidation.leadership_lock() returns bigint
language sql immutable parallel safe
return 461870002::bigint;

-- What a writer does when its try_shared failed. Not in the hot path: the worker is asleep. A NOTIFY for which the server's
-- queue has no room fails the whole transaction at its commit, and any session that listens and never ends its transaction fills it: with
-- half of it in use the bell stays silent, and the worker finds the row at its next fallback poll.
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

-- Invalidates one target by hand: an exact key, a pattern, or `*` for everything.
-- Takes the target as keys are written (segments encoded, at most 32); gives the row's id.
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
  -- each prefix of a key has a fence: see supabase/functions/_shared/cache/protocol/fences.ts
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
