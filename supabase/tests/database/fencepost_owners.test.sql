-- Who owns what: capture functions whose owner row level security binds, and tables that belong to an extension.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

create function pg_temp.captured(statement text, who text default 'postgres') returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  execute format('set local role %I', who);
  execute statement;
  reset role;
  return array(select o.op::text || ' ' || o.target || coalesce(' ' || o.error, '') from cache_invalidation.outbox as o order by o.target, o.op);
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
create function pg_temp.problems() returns text language sql as $$
  select string_agg(problem || ' | ' || remedy, '; ') from cache_invalidation.problems() where watch_id is not null
$$;

-- a project whose owner is no superuser and does not bypass row level security (without the tables that others own)
select cache_invalidation.unwatch(w.rel) from (select distinct known.rel from cache_invalidation.watches as known) as w;
create role fencepost_test_owner;
alter schema cache_invalidation owner to fencepost_test_owner;
do $$
declare
  owned regprocedure;
begin
  for owned in select p.oid from pg_proc as p where p.pronamespace = 'cache_invalidation'::regnamespace and p.prorettype <> 'event_trigger'::regtype loop
    execute format('alter function %s owner to fencepost_test_owner', owned);
  end loop;
end
$$;
grant all on all tables in schema cache_invalidation to fencepost_test_owner;
grant execute on all functions in schema cache_invalidation to fencepost_test_owner;
-- the capture functions of the watches that were there before have changed
select cache_invalidation.refresh();

-- FORCE ROW LEVEL SECURITY on the watched table: of a plain table and of a partitioned one
create table public.forced (id integer, org_id text);
create table public.forced_parts (id integer, org_id text) partition by list (id);
create table public.forced_rest partition of public.forced_parts default;
do $$
declare
  name text;
begin
  foreach name in array array['forced', 'forced_parts'] loop
    execute format('alter table public.%I owner to fencepost_test_owner', name);
    execute format('alter table public.%I enable row level security', name);
    execute format('alter table public.%I force row level security', name);
    execute format('create policy visible on public.%I using (org_id = ''a'') with check (true)', name);
  end loop;
end
$$;
select cache_invalidation.watch('public.forced', 'forced:{org_id}', columns => array['id']), cache_invalidation.watch('public.forced_parts', 'forced:{org_id}');
select is(pg_temp.captured(format($$insert into public.%I values (1, 'a'), (2, 'b')$$, name), 'fencepost_test_owner'), array['i forced:a', 'i forced:b'], name || ': rows that their writer cannot see') as inserted,
  is(pg_temp.captured(format($$update public.%I set org_id = 'c'$$, name), 'fencepost_test_owner'), array['u forced:a', 'u forced:c'], name || ': a row that vanishes from its writer''s sight') as updated,
  is(pg_temp.captured(format($$delete from public.%I$$, name)), array['d forced:b', 'd forced:c'], name || ': DELETE by a superuser') as deleted
from unnest(array['forced', 'forced_parts']) as name;

-- row level security on a join's parent
create table public.forced_owners (id integer primary key, user_id text);
create table public.forced_items (id integer, owner_id integer);
alter table public.forced_owners owner to fencepost_test_owner;
alter table public.forced_items owner to fencepost_test_owner;
alter table public.forced_owners enable row level security;
insert into public.forced_owners values (1, 'u');
select is(pg_temp.answer($$select cache_invalidation.watch('public.forced_items', 'user:{p.user_id}', join => 'public.forced_owners p on p.id = row.owner_id')$$), 'ok', 'row level security does not bind the parent''s owner');
select is(pg_temp.captured('insert into public.forced_items values (1, 1)'), array['i user:u'], 'who sees the parent');
select is(pg_temp.answer('alter table public.forced_owners force row level security'), 'ok', 'FORCE ROW LEVEL SECURITY is not refused');
select is(pg_temp.captured('insert into public.forced_items values (2, 1)'), array['i user:* 42501'], 'and the hidden parent widens');
select matches(pg_temp.problems(), '^writes to public.forced_items invalidate the whole type of user:\{p.user_id\}: row level security hides rows of public.forced_owners from fencepost_test_owner', 'which problems() names');
select matches(pg_temp.answer($$select cache_invalidation.watch('public.forced_items', 'other:{p.user_id}', join => 'public.forced_owners p on p.id = row.owner_id')$$),
  '^55000 row level security hides rows of public.forced_owners .*\| As a superuser: alter role fencepost_test_owner bypassrls;', 'a superuser''s watch() is refused: claims do not run as a superuser');
alter role fencepost_test_owner bypassrls;
select is(pg_temp.captured('insert into public.forced_items values (3, 1)'), array['i user:u'], 'the hint settles it');
select is(pg_temp.problems(), null, 'for problems() too');
alter role fencepost_test_owner nobypassrls;
alter table public.forced_owners owner to current_user;
alter table public.forced_owners no force row level security;
grant select on public.forced_owners to fencepost_test_owner;
select matches(pg_temp.problems(), 'row level security hides rows of public.forced_owners from fencepost_test_owner', 'a parent of another owner is hidden without FORCE');
drop table public.forced_items, public.forced_owners;

-- a table that goes to somebody else: it is named, and stops no other
create role fencepost_test_stranger;
create table public.lent (id integer primary key, org_id text);
create table public.kept (id integer primary key, org_id text);
alter table public.lent owner to fencepost_test_owner;
alter table public.kept owner to fencepost_test_owner;
select cache_invalidation.watch('public.lent', 'lent:{org_id}'), cache_invalidation.watch('public.kept', 'kept:{org_id}');
alter table public.lent owner to fencepost_test_stranger;
alter table public.lent disable trigger fencepost_public_lent;
alter table public.kept disable trigger fencepost_public_kept;
create function pg_temp.answer_as_owner(statement text) returns text language sql as $$
  select pg_temp.answer(format('set local role fencepost_test_owner; %s; reset role', statement))
$$;
select matches(pg_temp.problems(), 'public.lent belongs to fencepost_test_stranger, and fencepost_test_owner may not make its triggers \| grant fencepost_test_stranger to fencepost_test_owner;', 'a table of another owner is a problem');
select is(pg_temp.answer_as_owner('select cache_invalidation.refresh()'), 'ok', 'refresh() does not fail for it');
select is(pg_temp.captured($$insert into public.kept values (1, 'a'); insert into public.lent values (1, 'a')$$), array['i kept:a'], 'and mends the others');
select is(pg_temp.answer_as_owner('select cache_invalidation.pause(); select cache_invalidation.resume_capture()'), 'ok', 'nor do pause() and resume_capture()');
select is(pg_temp.captured($$insert into public.kept values (2, 'a')$$), array['i kept:a'], 'which capture the others again');
grant fencepost_test_stranger to fencepost_test_owner;
select is(pg_temp.answer_as_owner('select cache_invalidation.refresh()'), 'ok', 'with the right that problems() asks for');
select is(pg_temp.captured($$insert into public.lent values (2, 'a')$$), array['i lent:a'], 'it is mended too');
select is(pg_temp.problems(), null, 'and no problem is left');
revoke fencepost_test_stranger from fencepost_test_owner;
drop table public.lent;

-- a schema that goes to somebody else, with a joined table, and with the type by which one is joined
create schema lent authorization fencepost_test_owner;
create type lent.kind as enum ('a');
create table lent.parents (id integer primary key, user_id text);
create table public.kinds (kind lent.kind primary key, user_id text);
create table public.of_lent (id integer, kind lent.kind);
alter table lent.parents owner to fencepost_test_owner;
alter table public.kinds owner to fencepost_test_owner;
alter table public.of_lent owner to fencepost_test_owner;
insert into lent.parents values (1, 'u');
insert into public.kinds values ('a', 'v');
select cache_invalidation.watch('public.of_lent', 'parent:{p.user_id}', join => 'lent.parents p on p.id = row.id');
select cache_invalidation.watch('public.of_lent', 'kind:{k.user_id}', join => 'public.kinds k on k.kind = row.kind');
select cache_invalidation.watch('public.of_lent', 'plain:{id}');
select is(pg_temp.captured('alter schema lent owner to fencepost_test_stranger'), '{}', 'ALTER SCHEMA is followed');
select is(pg_temp.captured('create table public.other ()'), '{}', 'other DDL too');
select is(array(select problem || ' | ' || remedy from cache_invalidation.problems() where watch_id is not null order by 1), array[
  'fencepost_test_owner may not look up lent.parents, or a type of it, in the schema lent | grant usage on schema lent to fencepost_test_owner;',
  'fencepost_test_owner may not look up public.kinds, or a type of it, in the schema lent | grant usage on schema lent to fencepost_test_owner;'], 'problems() names what cannot be read');
select is(pg_temp.captured($$insert into public.of_lent values (1, 'a')$$), array['i kind:* 42501', 'i parent:* 42501', 'i plain:1'], 'of which claims widen, and nothing else');
select is(pg_temp.answer_as_owner('select cache_invalidation.refresh()'), 'ok', 'refresh() does not fail');
grant usage on schema lent to fencepost_test_owner;
select is(pg_temp.captured($$insert into public.of_lent values (1, 'a')$$), array['i kind:v', 'i parent:u', 'i plain:1'], 'the right settles it');
select is(pg_temp.problems(), null, 'for problems() too');

-- a table that belongs to an extension
create extension if not exists hstore with schema extensions;
create table public.member (id integer, org_id text);
alter table public.member owner to fencepost_test_owner;
alter extension hstore add table public.member;
select is(pg_temp.answer($$select cache_invalidation.watch('public.member', 'member:{org_id}')$$), 'ok', 'an extension''s table can be watched');
select is(pg_temp.answer('alter table public.member rename column org_id to organisation'), 'ok', 'and be changed');
select is(pg_temp.captured($$insert into public.member values (1, 'a')$$), array['i member:a'], 'and is followed');
select is((select count(*) from cache_invalidation.watches where target = 'member:{organisation}'), 1::bigint, 'under its new name');
select is(pg_temp.problems(), null, 'no problem is reported');
select is(pg_temp.answer('drop extension hstore'), 'ok', 'the extension can be dropped');
select is((select count(*) from cache_invalidation.watches where target = 'member:{organisation}'), 0::bigint, 'the watch with it');

select * from finish();
rollback;
