-- Joined keys: what is compared by its text finds the parent that the tables' own comparison finds, and by an index.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

-- Runs a statement and gives what it left in the outbox: operation and target, sorted.
-- (Each once: a child's and a parent's watch are two and may name the same target.)
create function pg_temp.captured(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  perform set_config('fencepost_test.reading', 'off', true);
  execute statement;
  perform set_config('fencepost_test.reading', 'on', true);
  return array(
    select found.line from (
      select distinct o.target, coalesce(o.op::text, '~') || ' ' || o.target || coalesce(' ' || o.error, '') as line from cache_invalidation.outbox as o
    ) as found order by found.target, found.line);
end
$$;

-- Neither a cast of an enum's owner nor the CHECK of a domain runs.
create type public.plan_kind as enum ('free', 'a:b');
create function public.forged(text) returns public.plan_kind language plpgsql as $$ begin raise exception 'ran as %', current_user; end $$;
create cast (text as public.plan_kind) with function public.forged(text);
create function public.checked(text) returns boolean language plpgsql as $$
begin
  if current_setting('fencepost_test.reading', true) = 'on' then
    raise exception 'ran as %', current_user;
  end if;
  return true;
end
$$;
create domain public.short_text as text check (public.checked(value));
create collation public.croatian (provider = icu, locale = 'hr');
create table public.typed (i integer, b bigint, n numeric, t text, v varchar(5), c char(6), h text collate public.croatian, d date, z timestamptz, u uuid, k public.plan_kind, x bytea, y boolean, s public.short_text, name text);
do $$
declare
  pair record;
begin
  for pair in select * from (values
    ('i', 'i', '7'), ('i', 'b', '7'), ('b', 'i', '7'), ('n', 'i', '7.000'), ('n', 'n', '1.50'), ('t', 't', 'a:b'), ('t', 'v', 'a'), ('t', 'c', 'a'), ('c', 'c', 'ab'), ('c', 't', 'ab'), ('v', 'c', 'ab'), ('h', 'h', 'Č'), ('h', 't', 'Č'), ('t', 'h', 'č'),
    ('d', 'd', '2026-11-01'), ('z', 'z', '2026-11-01 10:00:00.5+05:30'), ('u', 'u', '0A0B0C0D-0000-4000-8000-00000000000F'), ('k', 'k', 'a:b'), ('x', 'x', '\xDEAD'), ('y', 'y', 'true'), ('s', 's', 'a'), ('s', 't', 'a'), ('t', 's', 'a')
  ) as v(parent, child, value) loop
    execute format('create table public.typed_%1$s_%2$s as select %1$s as id, name from public.typed; alter table public.typed_%1$s_%2$s add primary key (id);
      create table public.of_%1$s_%2$s as select i as id, %2$s as parent from public.typed;
      select cache_invalidation.watch(''public.of_%1$s_%2$s'', ''%1$s_%2$s:{p.name}'', join => ''public.typed_%1$s_%2$s p on p.id = row.parent'');
      insert into public.typed_%1$s_%2$s values (%3$L, ''found'')', pair.parent, pair.child, pair.value);
  end loop;
end
$$;
set local timezone = 'Asia/Kolkata';
set local datestyle = 'SQL, DMY';
set local bytea_output = 'escape';
select is(pg_temp.captured(format('insert into public.of_%s_%s values (1, %L)', parent, child, value)), array[format('i %s_%s:found', parent, child)], format('a parent of type %s and a child of type %s', parent, child))
from (values ('i', 'i', '7'), ('i', 'b', '7'), ('b', 'i', '7'), ('n', 'i', '7'), ('n', 'n', '1.5'), ('t', 't', 'a:b'), ('t', 'v', 'a'), ('t', 'c', 'a'), ('c', 'c', 'ab'), ('c', 't', 'ab  '), ('v', 'c', 'ab'), ('h', 'h', 'Č'), ('h', 't', 'Č'), ('t', 'h', 'č'),
  ('d', 'd', '1/11/2026'), ('z', 'z', '2026-11-01 04:30:00.5+00'), ('u', 'u', '0a0b0c0d-0000-4000-8000-00000000000f'), ('k', 'k', 'a:b'), ('x', 'x', '\xdead'), ('y', 'y', 't'), ('s', 's', 'a'), ('s', 't', 'a'), ('t', 's', 'a')) as v(parent, child, value);
reset timezone;
reset datestyle;
reset bytea_output;
select is(pg_temp.captured($$insert into public.of_i_b values (1, 5000000000)$$), array['i i_b:* 22003'], 'a number that the parent''s type does not hold widens');

-- A claim looks its parents up: it does not read the whole table.
insert into public.typed_t_c select 'k' || i, 'n' || i from generate_series(1, 2000) as i;
insert into public.typed_h_t select 'k' || i, 'n' || i from generate_series(1, 2000) as i;
insert into public.typed_z_z select timestamptz '2026-01-01' + i * interval '1 second', 'n' || i from generate_series(1, 2000) as i;
create function pg_temp.rows_read(relation regclass, statement text) returns bigint language plpgsql as $$
declare
  before bigint;
begin
  delete from cache_invalidation.changes;
  execute statement;
  select s.seq_tup_read + s.idx_tup_fetch into before from pg_stat_xact_user_tables as s where s.relid = relation;
  perform from cache_invalidation.claim();
  return (select s.seq_tup_read + s.idx_tup_fetch - before from pg_stat_xact_user_tables as s where s.relid = relation);
end
$$;
select is(pg_temp.rows_read('public.typed_t_c', $$insert into public.of_t_c values (2, 'k1'), (3, 'k2')$$), 2::bigint, 'two parents by text');
select is(pg_temp.rows_read('public.typed_h_t', $$insert into public.of_h_t values (2, 'k1'), (3, 'k2')$$), 2::bigint, 'by text with a collation');
select is(pg_temp.rows_read('public.typed_z_z', $$insert into public.of_z_z values (2, timestamptz '2026-01-01 00:00:01'), (3, timestamptz '2026-01-01 00:00:02')$$), 2::bigint, 'by an instant');

select is((select count(*) from cache_invalidation.problems()), 0::bigint, 'none of them is a problem');
select * from finish();
rollback;
