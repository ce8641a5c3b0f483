-- Who may do what: only the worker's role reaches the schema, and writers need no right.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

create table public.open_table (id integer, org_id text);
grant all on public.open_table to anon, authenticated;
select cache_invalidation.watch('public.open_table', 'open:{org_id}:*');
grant usage on schema extensions to anon, authenticated, fencepost_worker;
delete from cache_invalidation.changes;

create function pg_temp.as_role(who text, statement text) returns text language plpgsql as $$
begin
  execute format('set local role %I', who);
  execute statement;
  reset role;
  return 'ok';
exception
  when others then
    reset role;
    return sqlstate;
end
$$;

select is(pg_temp.as_role(who, format($$insert into public.open_table values (1, %L)$$, who)), 'ok', who || ' writes a watched table')
from unnest(array['anon', 'authenticated']) as who;
select set_eq($$select target from cache_invalidation.outbox$$, array['open:anon:*', 'open:authenticated:*'], 'and each write is in the outbox');
select is(pg_temp.as_role('anon', $$truncate public.open_table$$), 'ok', 'anon truncates it (it was granted)');
select is((select count(*) from cache_invalidation.outbox where target = 'open:*'), 1::bigint, 'which is there, too');

select is(pg_temp.as_role(who, statement), '42501', who || ' cannot: ' || statement)
from unnest(array['anon', 'authenticated', 'service_role']) as who,
  unnest(array[
    'select * from cache_invalidation.changes', 'delete from cache_invalidation.changes', 'update cache_invalidation.changes set change = ''{x:y}''',
    'insert into cache_invalidation.changes (change) values (''{*}'')', 'truncate cache_invalidation.changes', 'lock table cache_invalidation.changes in exclusive mode',
    'select * from cache_invalidation.outbox', 'select * from cache_invalidation.status',
    'select * from cache_invalidation.watches', 'select * from cache_invalidation.epoch', 'select * from cache_invalidation.versions', 'select * from cache_invalidation.pending',
    'select cache_invalidation.invalidate(''*'')', 'select cache_invalidation.claim()', 'select cache_invalidation.acknowledge(''{1}'')', 'select cache_invalidation.new_epoch()', 'select cache_invalidation.compact()',
    'select cache_invalidation.watch(''public.open_table'', ''x:{org_id}'')', 'select cache_invalidation.unwatch(''public.open_table'')', 'select cache_invalidation.refresh()',
    'select cache_invalidation.pause()', 'select cache_invalidation.resume_capture()', 'select * from cache_invalidation.problems()',
    'select cache_invalidation.render(''{1}'')', 'select cache_invalidation.capture_public_open_table()',
    'select cache_invalidation.segment(''x''::text)', 'select nextval(''cache_invalidation.pending_id_seq'')', 'create table cache_invalidation.mine (a integer)'
  ]) as statement;

-- Everybody may execute the capture functions, because Postgres asks that of whoever makes a partition. Nobody can name one without a
-- right on the schema, so none can be borrowed for another table.
create table public.lure (org_id text);
alter table public.lure owner to authenticated;
select is(pg_temp.as_role('authenticated', format('create trigger forged after %s on public.lure for each %s execute function cache_invalidation.capture_public_open_table()', operation, level)), '42501',
  'authenticated cannot use a capture function for a trigger of its own: ' || operation || ' for each ' || level)
from (values ('insert', 'row'), ('truncate', 'statement')) as t(operation, level);
select is(pg_temp.as_role('authenticated', format('select %s::regproc', quote_literal('cache_invalidation.capture_public_open_table'))), '42501', 'nor by its name');

-- what functions are
select is_empty($$
  select p.oid::regprocedure::text from pg_proc as p
  where p.pronamespace = 'cache_invalidation'::regnamespace and p.prosecdef
    and not coalesce(array_to_string(p.proconfig, ',') like '%search_path=pg_catalog, pg_temp%', false)$$, 'every SECURITY DEFINER function looks names up in pg_catalog, and in pg_temp last');

select is_empty($$
  select p.oid::regprocedure::text from pg_proc as p
  where p.pronamespace in ('cache_invalidation'::regnamespace, 'cache_invalidation_queue'::regnamespace)
    and not exists (select from unnest(p.proconfig) as s(setting) where s.setting like 'search_path=%')$$, 'every function has a fixed search_path, as Supabase''s advisors ask, those of the queue too');
select is_empty($$
  select p.oid::regprocedure::text from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
  where p.pronamespace = 'cache_invalidation'::regnamespace and a.grantee = 0 and p.prorettype <> 'trigger'::regtype$$, 'PUBLIC can execute nothing but the capture functions');
select is_empty($$select a.grantee::regrole::text from pg_namespace as n, aclexplode(n.nspacl) as a
  where n.nspname = 'cache_invalidation' and a.grantee not in (n.nspowner, 'fencepost_worker'::regrole::oid)$$, 'nobody but the worker can use the schema');
select is_empty($$
  select c.oid::regclass::text from pg_class as c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as a
  where c.relnamespace = 'cache_invalidation'::regnamespace and c.relkind in ('r', 'S', 'v', 'm') and a.grantee not in (c.relowner, 'fencepost_worker'::regrole::oid)$$, 'no table is granted to anybody but the worker');
select is((select count(*) from pg_proc as p where p.pronamespace = 'cache_invalidation'::regnamespace and p.proowner <> (select nspowner from pg_namespace where nspname = 'cache_invalidation')), 0::bigint, 'every function belongs to the owner of the schema');

-- the worker
select is(pg_temp.as_role('fencepost_worker', statement), 'ok', 'fencepost_worker can: ' || statement)
from unnest(array[
  'select * from cache_invalidation.claim()', 'select cache_invalidation.acknowledge(''{1}''::xid8[])', 'select cache_invalidation.new_epoch()',
  'select cache_invalidation.discard(pg_current_snapshot())', 'select cache_invalidation.compact()', 'select cache_invalidation.invalidate(''quota:*'')',
  'select * from cache_invalidation.watches', 'select count(*) from cache_invalidation.changes', 'select count(*) from cache_invalidation.outbox',
  'select * from cache_invalidation.status', 'select * from cache_invalidation.problems()',
  'insert into cache_invalidation.pending (target, why, due_at) values (''x:y'', ''refused'', now())', 'update cache_invalidation.pending set attempts = 1',
  'delete from cache_invalidation.pending', 'update cache_invalidation.epoch set confirmed_at = now()'
]) as statement;
select is(pg_temp.as_role('fencepost_worker', statement), '42501', 'fencepost_worker cannot: ' || statement)
from unnest(array[
  'insert into cache_invalidation.changes (change) values (''{*}'')', 'update cache_invalidation.changes set change = ''{x:y}''', 'truncate cache_invalidation.changes',
  'delete from cache_invalidation.watches', 'delete from cache_invalidation.versions', 'update cache_invalidation.versions set query = ''select 1''',
  'select cache_invalidation.run_target_query(''{1}'', 1, 1, 1, 0::smallint)', 'select cache_invalidation.pause()', 'select cache_invalidation.resume_capture()',
  'select cache_invalidation.create_event_triggers()', 'select cache_invalidation.watch(''public.open_table'', ''x:{org_id}'')', 'select cache_invalidation.refresh()',
  'select * from public.open_table', 'drop table cache_invalidation.changes', 'drop view cache_invalidation.outbox', 'create table cache_invalidation.mine (a integer)',
  'create function cache_invalidation.mine() returns integer language sql return 1'
]) as statement;
select is(pg_temp.as_role('fencepost_worker', 'select cache_invalidation.invalidate('''')'), '22023', 'an empty target is refused');
select is(pg_temp.as_role('fencepost_worker', 'select cache_invalidation.invalidate(repeat('':'', 32))'), '22023', 'a target of more than 32 segments is refused');
select is(pg_temp.as_role('fencepost_worker', 'select cache_invalidation.invalidate(''a'' || repeat('':b'', 31))'), 'ok', 'one of 32 is not');
select is(pg_temp.as_role('fencepost_worker', format('select cache_invalidation.invalidate(%L)', target)), '22023', 'the cache''s own type is refused: ' || target)
from unnest(array['fence', 'fence:x', 'fence:*', 'fencepost:heartbeat']) as target;
select is(pg_temp.as_role('fencepost_worker', 'select cache_invalidation.invalidate(''fences:x'')'), 'ok', 'a type whose name only begins like it is not');

select * from finish();
rollback;
