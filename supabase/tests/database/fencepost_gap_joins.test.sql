-- Joined tables that are dropped and created again, or rebuilt under another name: their own changes are missed, and that is said.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

-- What the statement writes to the outbox.
create function pg_temp.captured(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  execute statement;
  return array(select distinct coalesce(o.op::text, '-') || ' ' || o.target from cache_invalidation.outbox as o order by 1);
end
$$;
create function pg_temp.problems(severity text default '%') returns text[] language sql as $$
  select array(select p.severity || ': ' || p.problem from cache_invalidation.problems() as p where p.severity like problems.severity order by p.severity, p.problem)
$$;
create function pg_temp.event_triggers(firing text) returns void language plpgsql as $$
declare
  name name;
begin
  foreach name in array '{fencepost_ddl,fencepost_drop}'::name[] loop
    execute format('alter event trigger %I %s', name, firing);
  end loop;
  -- as if by a role whose statements fire no event trigger: nothing tells of that
  perform cache_invalidation.keep_catalog_snapshot('{0}');
end
$$;

create table public.basket_lines (id integer primary key, basket_id integer);

-- dropped and created again, or rebuilt, in every order of the steps; with and without event triggers
create function pg_temp.check_rebuilt(steps text[], firing text default 'enable always') returns setof text language plpgsql as $$
declare
  title constant text := firing || ', ' || array_to_string(steps, '; ');
  step text;
begin
  create table public.baskets (id integer primary key, user_id text);
  create table public.baskets_new (id integer primary key, user_id text);
  perform cache_invalidation.watch('public.basket_lines', 'user:{b.user_id}', join => 'public.baskets b on b.id = row.basket_id');
  perform pg_temp.event_triggers(firing);
  foreach step in array steps loop
    execute step;
  end loop;
  perform pg_temp.event_triggers('enable always');
  return next matches(pg_temp.problems('error')::text, 'error: the watch of public.basket_lines for ''user:\{b.user_id\}'' joins', title);
  return next is(pg_temp.captured('select cache_invalidation.refresh()'), array['- user:*'], title || ': refresh() joins it and invalidates the type');
  return next is(pg_temp.problems(), '{}', title || ': no problem any more');
  return next is(pg_temp.captured($s$insert into public.baskets values (1, 'u')$s$), array['i user:u'], title || ': its writes are captured');
  return next is(pg_temp.captured($s$insert into public.basket_lines values (1, 1)$s$), array['i user:u'], title || ': and read for the child');
  perform cache_invalidation.unwatch('public.basket_lines');
  truncate public.basket_lines;
  drop table if exists public.baskets, public.baskets_new;
end
$$;
select pg_temp.check_rebuilt(s.steps, f.firing)
from (values
  (array['drop table public.baskets', 'create table public.baskets (id integer primary key, user_id text)']),
  (array['drop table public.baskets', 'alter table public.baskets_new rename to baskets']),
  (array['alter table public.baskets rename to baskets_old', 'drop table public.baskets_old', 'alter table public.baskets_new rename to baskets']),
  (array['alter table public.baskets rename to baskets_old', 'alter table public.baskets_new rename to baskets', 'drop table public.baskets_old'])
) as s(steps), unnest('{enable always,disable}'::text[]) as f(firing);

-- renamed for good, then dropped and created under its second name
create table public.baskets (id integer primary key, user_id text, user_new text);
select cache_invalidation.watch('public.basket_lines', 'user:{b.user_id}', join => 'public.baskets b on b.id = row.basket_id');
alter table public.baskets rename to carts;
select is(pg_temp.problems(), '{}', 'a joined table that is renamed is followed');
drop table public.carts;
select is(pg_temp.problems('error'), '{}', 'dropped: its rows are gone, nothing is missed');
create table public.carts (id integer primary key, user_id text, user_new text);
select matches(pg_temp.problems('error')::text, 'joins a table that was dropped', 'created again under its second name');
select cache_invalidation.refresh();
select is(pg_temp.problems(), '{}', 'and joined again');

-- one that no longer fits
drop table public.carts;
create table public.carts (id integer primary key);
select cache_invalidation.refresh();
select matches(pg_temp.problems('error')::text, 'joins a table that was dropped', 'without the column: refresh() does not fail, and the problem stays');
select is(cache_invalidation.unwatch('public.basket_lines'), 1, 'until unwatch()');
select is(pg_temp.problems(), '{}', 'no problem any more');

-- swapped, and both are there: the statements for either wish
create function pg_temp.check_swapped(swap text, other text) returns setof text language plpgsql as $$
declare
  remedy text;
begin
  drop table if exists public.carts, public.carts_old, public.carts_new;
  create table public.carts (id integer primary key, user_id text, user_new text);
  create table public.carts_new (id integer primary key, user_id text);
  insert into public.carts values (1, 'followed', 'other');
  insert into public.carts_new values (1, 'other');
  perform cache_invalidation.watch('public.basket_lines', 'user:{b.user_id}', join => 'public.carts b on b.id = row.basket_id');
  execute swap;
  return next matches(pg_temp.problems()::text, '^\{"error: the watch of public.basket_lines for [^"]*; another (table|column) is called that now"\}$', swap);
  remedy := (select p.remedy from cache_invalidation.problems() as p);
  return next is(pg_temp.captured('insert into public.basket_lines values (1, 1)'), array['i user:followed'], swap || ': it follows what it was declared for');
  execute split_part(remedy, 'To keep this one: ', 2);
  return next is(pg_temp.problems(), '{}', swap || ': one statement keeps it');
  execute split_part(split_part(remedy, 'To watch the other one instead: ', 2), ' To keep', 1);
  return next is(pg_temp.problems(), '{}', swap || ': the others take the other');
  return next is(pg_temp.captured('insert into public.basket_lines values (2, 1)'), array['i user:other'], swap || ': which is read now');
  return next is(pg_temp.captured(other), array['u user:changed', 'u user:other'], swap || ': and whose writes are captured');
  perform cache_invalidation.unwatch('public.basket_lines');
  truncate public.basket_lines;
end
$$;
select pg_temp.check_swapped('alter table public.carts rename to carts_old; alter table public.carts_new rename to carts', $$update public.carts set user_id = 'changed'$$);
select pg_temp.check_swapped('alter table public.carts rename user_id to user_old; alter table public.carts rename user_new to user_id', $$update public.carts set user_id = 'changed'$$);

select * from finish();
rollback;
