-- What answers a key: who may declare it, and what is refused.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

create table public.answer_rows (id integer primary key, org text, body text);
create function public.answer_body(id integer) returns text language sql as 'select body from public.answer_rows where id = $1';

select cache_invalidation.answers('answer:{id}', 'public.answer_body');
select cache_invalidation.answers('list:{org}:all', 'select body from public.answer_rows where org = $1');
select results_eq(
  $$select target collate "default", source from cache_invalidation.answer_sources where target in ('answer:{id}', 'list:{org}:all') order by 1$$,
  $$values ('answer:{id}', 'select public.answer_body($1)'), ('list:{org}:all', 'select body from public.answer_rows where org = $1')$$,
  'a function becomes a call of it; a query stays as it is'
);
select cache_invalidation.answers('answer:{id}', 'select 1 where $1 = 2');
select is((select source from cache_invalidation.answer_sources where target = 'answer:{id}'), 'select 1 where $1 = 2', 'a second declaration replaces the first');
select cache_invalidation.answers('answer:{id}', null);
select is_empty($$select from cache_invalidation.answer_sources where target = 'answer:{id}'$$, 'NULL takes it back');

select throws_ok(format('select cache_invalidation.answers(%L, %L)', target, source), code, null, coalesce(target, 'NULL') || ' with ' || source)
from (values
  (null, 'select 1', '22023'), ('', 'select 1', '22023'), ('{id}:a', 'select $1', '22023'), ('a:*', 'select 1', '22023'), ('a:{b', 'select 1', '22023'),
  ('a:{b}', 'select 1', '22023'), ('a', 'select $1::text', '22023'), ('a:{b}', 'select $2::text', '42P18'),
  ('a', 'select 1; select 2', '42601'), ('a', 'delete from public.answer_rows returning id', '42601'), ('a:{b}', 'selec $1', '42601'), ('a:{b}', 'select * from answer_rows where org = $1', '42P01'), ('a:{b}', 'public.nothing', '42601')
) as refused (target, source, code);
select is_empty('select name from pg_prepared_statements where name = ''fencepost_answers''', 'nothing stays prepared');

create function pg_temp.as_role(who text, statement text) returns text language plpgsql as $$
begin
  execute format('set local role %I', who);
  execute statement;
  reset role;
  return 'ok';
exception when others then
  reset role;
  return sqlstate;
end
$$;
select is(pg_temp.as_role('fencepost_worker', 'select * from cache_invalidation.answer_sources'), 'ok', 'the worker reads what is declared');
select is(pg_temp.as_role(who, statement), '42501', who || ' cannot: ' || statement)
from unnest(array['fencepost_worker', 'anon', 'authenticated', 'service_role']) as who,
  unnest(array[
    'select cache_invalidation.answers(''a'', ''select 1'')', 'insert into cache_invalidation.answer_sources values (''a'', ''select 1'')',
    'update cache_invalidation.answer_sources set source = ''select 1''', 'delete from cache_invalidation.answer_sources'
  ]) as statement;

select * from finish();
rollback;
