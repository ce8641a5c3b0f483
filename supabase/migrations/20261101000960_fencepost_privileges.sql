-- Fencepost: privileges. Only the worker's role gets rights here; the API's roles get none. Writers need none, because the capture
-- functions run as their owner. This is the engine's last migration, so that it covers every object before it. A later
-- migration revokes what it adds by name: capture functions keep the right that partitions need.

-- Also Supabase's API roles, where they exist: default privileges of a project may have granted them something.
do $$
declare
  role_name text;
begin
  foreach role_name in array array['public', 'anon', 'authenticated', 'service_role'] loop
    if role_name = 'public' or exists (select from pg_catalog.pg_roles as r where r.rolname = role_name) then
      execute format('revoke all on schema cache_invalidation from %1$I; revoke all on all tables in schema cache_invalidation from %1$I;'
        'revoke all on all functions in schema cache_invalidation from %1$I; revoke all on all sequences in schema cache_invalidation from %1$I', role_name);
    end if;
  end loop;
end
$$;

grant usage on schema cache_invalidation to fencepost_worker;
-- acknowledge, discard, compact
grant select, delete on cache_invalidation.changes to fencepost_worker;
grant select on cache_invalidation.outbox, cache_invalidation.status, cache_invalidation.watches, cache_invalidation.versions to fencepost_worker;
grant select, insert, update, delete on cache_invalidation.pending to fencepost_worker;
grant select, insert, update on cache_invalidation.epoch to fencepost_worker;
grant execute on function
  cache_invalidation.acknowledge(xid8[]),
  cache_invalidation.new_epoch(),
  cache_invalidation.discard(pg_snapshot, integer),
  cache_invalidation.compact(bigint),
  -- SECURITY DEFINER: what they read and write besides is not the worker's
  cache_invalidation.claim(cache_invalidation.claim_position, integer),
  cache_invalidation.render(xid8[]),
  cache_invalidation.problems(),
  cache_invalidation.invalidate(text)
to fencepost_worker;

-- The worker vacuums after many deletions, so that the tables' size stays flat. Postgres 17 can grant just that. Before 17 only the
-- tables' owner may do it, and autovacuum does it once a minute.
do $$
begin
  if current_setting('server_version_num')::integer >= 170000 then
    execute 'grant maintain on cache_invalidation.changes, cache_invalidation.pending to fencepost_worker';
  end if;
end
$$;
