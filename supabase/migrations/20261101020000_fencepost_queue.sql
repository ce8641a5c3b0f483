-- Fencepost: the empty schema of the job queue. The leading worker installs bullmq's own tables in it, as fencepost_worker
-- (worker/src/queue/install.ts). Where the worker may create nothing, revoke create below and run "fencepost queue-sql".

create schema cache_invalidation_queue;
comment on schema cache_invalidation_queue is 'Fencepost: BullMQ''s jobs. Never expose this schema through an API.';
revoke all on schema cache_invalidation_queue from public;
grant usage, create on schema cache_invalidation_queue to fencepost_worker;

-- Postgres 16 and newer let the creator of a role not act as it. Whoever applies the migrations often runs the worker, too,
-- and dumps the queue's tables. A superuser needs no grant; a role that another database's owner made cannot be granted here.
do $$
begin
  if not (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user) then
    execute format('grant fencepost_worker to %I', current_user);
  end if;
exception
  when insufficient_privilege then null;
end
$$;
