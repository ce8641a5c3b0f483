-- Who may do what: only the worker's role reaches the schema, and writers need no right.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

create table public.open_table (id integer, org_id text);
grant all on public.open_table to anon, authenticated;
select cache_invalidation.watch('public.open_table', 'open:{org_id}:*');
grant usage on schema extensions to anon, authenticated, fencepost_worker;
delete from cache_invalidation.outbox;

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
select is(pg_temp.as_role('anon', $$truncate public.open_table$$), 'ok', 'anon truncates it (it was granted)');
select set_eq($$select target from cache_invalidation.outbox$$, array['open:anon:*', 'open:authenticated:*', 'open:*'], 'and each write is in the outbox');

select is(pg_temp.as_role(who, statement), '42501', who || ' cannot: ' || statement)
from unnest(array['anon', 'authenticated', 'service_role']) as who,
  unnest(array[
    'select * from cache_invalidation.outbox', 'delete from cache_invalidation.outbox', 'update cache_invalidation.outbox set target = ''x:y''',
    'insert into cache_invalidation.outbox (target) values (''*'')', 'truncate cache_invalidation.outbox', 'lock table cache_invalidation.outbox in exclusive mode',
    'select * from cache_invalidation.watches', 'select * from cache_invalidation.epoch', 'select * from cache_invalidation.deferred', 'select * from cache_invalidation.pending',
    'select cache_invalidation.invalidate(''*'')', 'select cache_invalidation.claim()', 'select cache_invalidation.new_epoch()', 'select cache_invalidation.compact()',
    'select cache_invalidation.watch(''public.open_table'', ''x:{org_id}'')', 'select cache_invalidation.unwatch(''public.open_table'')', 'select cache_invalidation.refresh()',
    'select cache_invalidation.encode_segment(''x'')', 'select nextval(''cache_invalidation.outbox_id_seq'')', 'create table cache_invalidation.mine (a integer)'
  ]) as statement;

-- a trigger function cannot be borrowed for another table
create table public.lure (org_id text);
alter table public.lure owner to authenticated;
select is(pg_temp.as_role('authenticated', format('create trigger forged after insert on public.lure referencing new table as new_rows for each statement execute function cache_invalidation.%I()', proname)), '42501', 'authenticated cannot use ' || proname || ' for a trigger of its own')
from pg_proc where pronamespace = 'cache_invalidation'::regnamespace and prosrc like '%public.open_table%';

-- what functions are
select is_empty($$
  select p.oid::regprocedure::text from pg_proc as p
  where p.pronamespace = 'cache_invalidation'::regnamespace and p.prosecdef
    and not coalesce(array_to_string(p.proconfig, ',') like '%search_path=pg_catalog, pg_temp%', false)$$, 'every SECURITY DEFINER function looks names up in pg_catalog, and in pg_temp last');

-- a writer's own types, in the schema that is searched first unless it is named, run nothing with the owner's rights
create temp table seen (who name);
grant all on seen to authenticated;
create function pg_temp.notice(v anyelement) returns boolean language plpgsql as
$$begin insert into pg_temp.seen values (current_user); return true; end$$;
grant execute on function pg_temp.notice to authenticated;
create domain pg_temp.text as pg_catalog.text check (pg_temp.notice(value));
create domain pg_temp."char" as pg_catalog."char" check (pg_temp.notice(value));
select is(pg_temp.as_role('authenticated', 'insert into public.open_table values (7, ''hostile:*'')'), 'ok', 'a write with types of the writer''s own succeeds');
select is_empty('select who from pg_temp.seen where who <> ''authenticated''', 'and runs none of them as the owner');
drop domain pg_temp.text;
drop domain pg_temp."char";
select is_empty($$
  select p.oid::regprocedure::text from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
  where p.pronamespace = 'cache_invalidation'::regnamespace and a.grantee = 0$$, 'PUBLIC can execute nothing');
select is_empty($$
  select c.oid::regclass::text from pg_class as c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as a
  where c.relnamespace = 'cache_invalidation'::regnamespace and c.relkind in ('r', 'S') and a.grantee not in (c.relowner, 'fencepost_worker'::regrole::oid)$$, 'no table is granted to anybody but the worker');
select is((select count(*) from pg_proc as p where p.pronamespace = 'cache_invalidation'::regnamespace and p.proowner <> (select nspowner from pg_namespace where nspname = 'cache_invalidation')), 0::bigint, 'every function belongs to the owner of the schema');

-- the worker
select is(pg_temp.as_role('fencepost_worker', statement), 'ok', 'fencepost_worker can: ' || statement)
from unnest(array[
  'select * from cache_invalidation.claim()', 'select cache_invalidation.acknowledge(''{1}''::xid8[], ''{1}'')', 'select * from cache_invalidation.due()', 'select cache_invalidation.settle(''{x}'', gen_random_uuid())',
  'select cache_invalidation.next_due()', 'select cache_invalidation.new_epoch()', 'select cache_invalidation.discard(pg_current_snapshot())', 'select cache_invalidation.compact()',
  'select cache_invalidation.invalidate(''quota:*'')', 'select * from cache_invalidation.watches', 'select count(*) from cache_invalidation.outbox', 'select * from cache_invalidation.problems()'
]) as statement;
select is(pg_temp.as_role('fencepost_worker', statement), '42501', 'fencepost_worker cannot: ' || statement)
from unnest(array[
  'insert into cache_invalidation.outbox (target) values (''*'')', 'update cache_invalidation.outbox set target = ''x:y''', 'truncate cache_invalidation.outbox', 'delete from cache_invalidation.watches',
  'select cache_invalidation.watch(''public.open_table'', ''x:{org_id}'')', 'select cache_invalidation.refresh()', 'select * from public.open_table', 'drop table cache_invalidation.outbox', 'create table cache_invalidation.mine (a integer)'
]) as statement;
select is(pg_temp.as_role('fencepost_worker', 'select cache_invalidation.invalidate('''')'), '22023', 'an empty target is refused');
select is(pg_temp.as_role('fencepost_worker', 'select cache_invalidation.invalidate(repeat('':'', 32))'), '22023', 'a target of more than 32 segments is refused');
select is(pg_temp.as_role('fencepost_worker', 'select cache_invalidation.invalidate(''a'' || repeat('':b'', 31))'), 'ok', 'one of 32 is not');

select * from finish();
rollback;
