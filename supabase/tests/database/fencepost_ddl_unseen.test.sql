-- DDL that is easily missed: under session_replication_role = replica, and by statements that are not called ALTER TABLE.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

-- What the second statement writes to the outbox, after the first (and what the first does, if there is no second).
create function pg_temp.captured(statement text, afterwards text default null) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.outbox;
  execute statement;
  if afterwards is not null then
    set local session_replication_role = origin;
    delete from cache_invalidation.outbox;
    execute afterwards;
  end if;
  return array(select coalesce(o.op::text, '-') || ' ' || o.target || coalesce(' ' || o.error, '') from cache_invalidation.outbox as o order by o.target, o.op);
end
$$;
create function pg_temp.answer(statement text) returns text language plpgsql as $$
declare
  hint text;
begin
  execute statement;
  return 'ok';
exception
  when others then
    get stacked diagnostics hint = pg_exception_hint;
    return sqlstate || ' ' || sqlerrm || ' | ' || hint;
end
$$;

create table public.ev (id integer, org_id text, v integer) partition by range (id);
select cache_invalidation.watch('public.ev', 'ev:{org_id}');

-- session_replication_role
set local session_replication_role = replica;
select is(pg_temp.captured('create table public.ev2 partition of public.ev for values from (20) to (30)', 'truncate public.ev2'), array['t ev:*'], 'replica: a new partition');
set local session_replication_role = replica;
select is(pg_temp.captured('alter table public.ev alter column v type bigint using v * 100'), array['- ev:*'], 'replica: rewritten rows');
select is(pg_temp.captured('alter table public.ev rename column org_id to organisation', $$insert into public.ev values (20, 'a')$$), array['i ev:a'], 'replica: a renamed column');
set local session_replication_role = replica;
select matches(pg_temp.answer('alter table public.ev drop column organisation'), '^42703 .*needs what this statement takes away', 'replica: a needed column');
set local session_replication_role = origin;
select is((select array_agg(problem) from cache_invalidation.problems()), null, 'in good order');
alter event trigger fencepost_drop enable;
alter event trigger fencepost_rewrite disable;
select results_eq('select watch_id, problem, remedy from cache_invalidation.problems()', $$values (null::integer,
  'DDL is not seen always, because these event triggers are disabled, or are so under session_replication_role = replica: fencepost_drop, fencepost_rewrite',
  'alter event trigger fencepost_drop enable always; alter event trigger fencepost_rewrite enable always;')$$, 'event triggers that do not fire always are named');
do $$ begin execute (select remedy from cache_invalidation.problems()); end $$;
select is((select array_agg(problem) from cache_invalidation.problems()), null, 'and the remedy settles it');

select * from finish();
rollback;
