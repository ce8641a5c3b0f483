-- Partitions, whose triggers are clones of the partitioned table's: what is disabled on one of them is seen, and mended.
\ir fencepost_preamble.psql
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

select is(array(select t.rel::regclass::text from cache_invalidation.table_trees(array['public.parted'::regclass::oid]) as t order by 1),
  array['parted', 'parted_1', 'parted_2', 'parted_2_1'], 'the tree of a table');

-- foreign tables below (writes to one: tests/capture/foreign-partitions.test.ts)
create foreign data wrapper nowhere;
create server nowhere foreign data wrapper nowhere;
create table public.mixed (id integer, org text) partition by list (org);
create foreign table public.mixed_f partition of public.mixed for values in ('f') server nowhere;
create table public.mixed_a partition of public.mixed for values in ('a');
select lives_ok($$select cache_invalidation.watch('public.mixed', 'mixed:{org}')$$, 'a foreign partition is no obstacle');
create foreign table public.mixed_g partition of public.mixed for values in ('g') server nowhere;
select is(pg_temp.problems('public.mixed'), '{}', 'nor one that comes later');
select is(pg_temp.captured($$insert into mixed values (1, 'a')$$), array['i mixed:a'], 'and the others are captured');

-- NULLs where the watched table itself has none
create table public.strict (id integer, org text);
create table public.late (id integer, org text);
insert into public.late values (1, null);
do $$
begin
  if current_setting('server_version_num')::integer >= 180000 then
    execute 'alter table public.late add constraint late_org not null org not valid';
    execute 'alter table public.strict add constraint strict_org not null org no inherit';
    create table public.lax () inherits (public.strict);
  else
    create table public.lax () inherits (public.strict);
    alter table only public.strict alter column org set not null;
  end if;
end
$$;
select cache_invalidation.watch('public.strict', 'strict:{org}:list');
select is(pg_temp.captured('insert into lax values (1, null)'), array['i strict:*'], 'a NULL of an inheritance child widens');
select is(pg_temp.captured($$update strict set org = 'a'$$), array['u strict:*', 'u strict:a:list'], 'before an update of it, too');
select cache_invalidation.watch('public.late', 'late:{org}:list');
select is(pg_temp.captured('delete from late'), array['d late:*'], 'a NULL of before a NOT NULL that is not valid yet');

select * from finish();
rollback;
