-- Fencepost: privileges. Only the worker's role gets rights here; the API's roles get none. Writers need none, because the capture
-- functions run as their owner. This is the engine's last migration, so that it covers every object before it. A later
-- migration that adds functions repeats the first statement.

revoke all on all functions in schema cache_invalidation from public;
revoke all on all tables in schema cache_invalidation from public;
revoke all on all sequences in schema cache_invalidation from public;

-- Supabase's API roles, where they exist: default privileges of a project may have granted them something.
do $$
declare
  api_role text;
begin
  foreach api_role in array array['anon', 'authenticated', 'service_role'] loop
    if exists (select from pg_catalog.pg_roles as r where r.rolname = api_role) then
      execute format('revoke all on schema cache_invalidation from %I', api_role);
      execute format('revoke all on all tables in schema cache_invalidation from %I', api_role);
      execute format('revoke all on all functions in schema cache_invalidation from %I', api_role);
      execute format('revoke all on all sequences in schema cache_invalidation from %I', api_role);
    end if;
  end loop;
end
$$;

grant usage on schema cache_invalidation to fencepost_worker;
-- claim, acknowledge, discard, compact
grant select, delete on cache_invalidation.outbox to fencepost_worker;
grant select on cache_invalidation.watches to fencepost_worker;
grant select, insert, update, delete on cache_invalidation.deferred, cache_invalidation.pending to fencepost_worker;
grant select, insert, update on cache_invalidation.epoch to fencepost_worker;
grant execute on function
  cache_invalidation.claim(cache_invalidation.claim_position, integer),
  cache_invalidation.resume(),
  cache_invalidation.rest(xid8[], bigint[]),
  cache_invalidation.remove_rows(xid8[], bigint[]),
  cache_invalidation.rest_from_now(xid8[], bigint[]),
  cache_invalidation.forget_rested(integer),
  cache_invalidation.acknowledge(xid8[], bigint[], boolean),
  cache_invalidation.due(integer),
  cache_invalidation.settle(text[], uuid),
  cache_invalidation.next_due(),
  cache_invalidation.new_epoch(),
  cache_invalidation.discard(pg_snapshot, integer),
  cache_invalidation.compact(bigint),
  cache_invalidation.problems(),
  -- SECURITY DEFINER: the worker's role may insert only through it
  cache_invalidation.invalidate(text)
to fencepost_worker;

-- The worker vacuums the outbox after many deletions, so that its size stays flat. Postgres 17 can grant just that. Before 17 only the
-- table's owner may do it, and autovacuum does it once a minute.
do $$
begin
  if current_setting('server_version_num')::integer >= 170000 then
    execute 'grant maintain on cache_invalidation.outbox, cache_invalidation.deferred, cache_invalidation.pending to fencepost_worker';
  end if;
end
$$;
