-- Partitions, whose triggers are clones of the partitioned table's: what is disabled on one of them is seen, and mended.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

create function pg_temp.captured(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.outbox;
  execute statement;
  return array(select o.op::text || ' ' || o.target || coalesce(' ' || o.error, '') from cache_invalidation.outbox as o order by o.target, o.op);
end
$$;
create function pg_temp.problems(named text) returns text[] language sql as $$
  select array(select regexp_replace(p.problem, ':.*', '') from cache_invalidation.problems() as p join cache_invalidation.watches as w on w.id = p.watch_id
    where w.rel = named::regclass)
$$;

create table public.parted (id integer, org text) partition by range (id);
create table public.parted_1 partition of public.parted for values from (0) to (10);
create table public.parted_2 partition of public.parted for values from (10) to (100) partition by range (id);
create table public.parted_2_1 partition of public.parted_2 for values from (10) to (20);
select cache_invalidation.watch('public.parted', 'parted:{org}');
select is(pg_temp.problems('public.parted'), '{}', 'in good order');

alter table parted_1 disable trigger user;
select is(pg_temp.problems('public.parted'), array['triggers are missing or disabled'], 'a partition''s disabled clones are named');
select lives_ok('select cache_invalidation.refresh()');
select is(pg_temp.problems('public.parted'), '{}', 'refresh() enables them');
select is(pg_temp.captured($$insert into parted values (2, 'a')$$), array['i parted:a'], 'and writes count again');

alter table parted_2_1 disable trigger user;
alter table parted_2_1 enable trigger user;
select is(pg_temp.problems('public.parted'), array['triggers are missing or disabled'], 'so are those that do not fire always, two levels down');
select cache_invalidation.refresh();
set local session_replication_role = replica;
select is(pg_temp.captured($$insert into parted values (12, 'b')$$), array['i parted:b'], 'which they do after refresh()');
set local session_replication_role = origin;

select is(array(select t.rel::text from cache_invalidation.table_tree('public.parted') as t order by 1),
  array['parted', 'parted_1', 'parted_2', 'parted_2_1'], 'the tree of a table');

select * from finish();
rollback;
