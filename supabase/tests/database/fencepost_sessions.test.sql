-- What a writer's session has set changes neither which updates count (`columns`) nor any key.
\ir fencepost_preamble.psql

create table public.instants (
  org_id text, at timestamptz, raw bytea, day date, length interval, ratio double precision, local timestamp, price numeric
);
select cache_invalidation.watch('public.instants', 'at:{org_id}:{at}:{raw}:{day}:{local}:{price}');
select cache_invalidation.watch('public.instants', 'changed:{org_id}', columns => array['at', 'raw', 'day', 'length', 'ratio', 'local']);
create table public.parts_of_day (org_id text, at timestamptz, ratio double precision, length interval) partition by list (org_id);
create table public.parts_rest partition of public.parts_of_day default;
select cache_invalidation.watch('public.parts_of_day', 'part:{org_id}', columns => array['at', 'ratio', 'length']);

-- The zone is called XXX in summer and in winter: written in a style that names it so, the two instants that a clock shows as
-- 01:30 in the night when summer ends are one text.
create function pg_temp.hostile() returns void language sql as $$
  select set_config('timezone', '<XXX>0<XXX>-1,M3.5.0,M10.5.0', true), set_config('datestyle', 'SQL, DMY', true), set_config('bytea_output', 'escape', true),
    set_config('intervalstyle', 'sql_standard', true), set_config('extra_float_digits', '-15', true), set_config('lc_monetary', 'C', true),
    set_config('search_path', 'pg_temp', true), set_config('standard_conforming_strings', 'off', true), set_config('quote_all_identifiers', 'on', true),
    set_config('plan_cache_mode', 'force_custom_plan', true), set_config('row_security', 'off', true)
$$;
create function pg_temp.in_hostile_session(statement text) returns text[] language plpgsql
set search_path = public set timezone = 'UTC' set datestyle = 'ISO' set bytea_output = 'hex' set intervalstyle = 'postgres' set extra_float_digits = 1
set standard_conforming_strings = on set quote_all_identifiers = off set plan_cache_mode = auto set row_security = on
as $$
declare
  answer text[];
begin
  perform pg_temp.hostile();
  return pg_temp.captured(statement);
end
$$;

select is(pg_temp.in_hostile_session($$insert into public.instants values ('a', '2026-10-25 00:30:00.123456+00', 'abc', '2026-02-03', '1 day', 0.1, '2026-02-03 04:05', 1.50), ('b', '2026-10-25 00:30:00+00', 'abc', '2026-02-03', '1 day', 0.1, '2026-02-03 04:05', 1.50)$$),
  array['i at:a:2026-10-25T00%3A30%3A00.123456Z:616263:2026-02-03:2026-02-03T04%3A05%3A00:1.5', 'i at:b:2026-10-25T00%3A30%3A00Z:616263:2026-02-03:2026-02-03T04%3A05%3A00:1.5', 'i changed:a', 'i changed:b'],
  'keys are the same in any session');
select cache_invalidation.unwatch('public.instants', 'at:{org_id}:{at}:{raw}:{day}:{local}:{price}');
select is(pg_temp.in_hostile_session($$update public.instants set at = at + interval '1 hour'$$), array['u changed:a', 'u changed:b'], 'columns: the hour that the clock shows twice');
select is(pg_temp.in_hostile_session($$update public.instants set ratio = ratio + 1e-12$$), array['u changed:a', 'u changed:b'], 'columns: a small difference of floating point numbers');
select is(pg_temp.in_hostile_session($$update public.instants set length = '24 hours'$$), array['u changed:a', 'u changed:b'], 'columns: intervals that are equal, and not the same');
select is(pg_temp.in_hostile_session($$update public.instants set price = price$$), '{}', 'columns: nothing that counts changed');
select is(pg_temp.in_hostile_session($$update public.instants set ratio = ratio + 1e-12 where org_id = 'a'$$), array['u changed:a'], 'columns: one row');
insert into parts_of_day values ('a', '2026-10-25 00:30:00+00', 0.1, '1 day'), ('b', '2026-10-25 00:30:00+00', 0.1, '1 day');
select is(pg_temp.in_hostile_session($$update public.parts_of_day set at = at + interval '1 hour'$$), array['u part:a', 'u part:b'], 'columns in a partitioned table: the hour that the clock shows twice');
select is(pg_temp.in_hostile_session($$update public.parts_of_day set ratio = ratio + 1e-12$$), array['u part:a', 'u part:b'], 'columns in a partitioned table: a small difference');
select is(pg_temp.in_hostile_session($$update public.parts_of_day set length = '24 hours'$$), array['u part:a', 'u part:b'], 'columns in a partitioned table: equal intervals');

-- nor what an update of several rows stores, of a table whose keys need none of these settings
create table public.enclosed (id integer primary key, n numeric, e boolean, v varchar(10), x integer);
select cache_invalidation.watch('public.enclosed', 'in:{n}:{e}:{v}');
insert into public.enclosed values (1, -0.50, true, 'é', 0), (2, 1e20, false, '', 0);
select is(pg_temp.in_hostile_session($$update public.enclosed set x = 1$$), array['u in:-0.5:true:%C3%A9', 'u in:100000000000000000000:false:'], 'numbers, booleans and texts');

-- nor what watch() and the event triggers make of a declaration
create table public.owners (id integer primary key, user_id text);
create table public.owned (id integer primary key, owner_id integer references public.owners, note text);
create function pg_temp.declare_owned() returns text[] language sql as $$
  select cache_invalidation.unwatch('public.owned');
  select cache_invalidation.watch('public.owned', 'own:{o.user_id}:{"note"}:*', join => 'public.owners o on o.id = row.owner_id');
  select cache_invalidation.watch('public.owned', 'owner:{o.user_id}', join => 'public.owners o on o.id = row.owner_id');
  -- the function without its version; the queries, the declarations and those that they imply
  select array(
    select regexp_replace(p.prosrc, '-?[0-9]{9,}', '', 'g') || p.proconfig::text from pg_proc as p
    where p.pronamespace = 'cache_invalidation'::regnamespace and p.proname in ('capture_public_owned', 'capture_public_owners')
    union all
    select v.target || v.query from cache_invalidation.versions as v where v.rel in ('public.owned'::regclass, 'public.owners'::regclass) and v.retired is null
    union all
    select w.target || coalesce(w.join_clause, '') from cache_invalidation.watches as w where w.rel in ('public.owned'::regclass, 'public.owners'::regclass)
    order by 1)
$$;
select cache_invalidation.watch('public.owners', 'owner:{user_id}');
create temporary table usual as select pg_temp.declare_owned() as bodies;
select is((select cardinality(bodies) from usual), 12, 'what is compared below');
set local standard_conforming_strings = off;
set local escape_string_warning = off;
set local quote_all_identifiers = on;
select is(pg_temp.declare_owned(), (select bodies from usual), 'watch() writes the same functions in any session');
alter table public.owned rename column note to remark;
select is((select string_agg(target, ' ' order by target) from cache_invalidation.watches where rel = 'public.owned'::regclass), 'own:{o.user_id}:{remark}:* owner:{o.user_id}', 'renames are followed in any session');
reset standard_conforming_strings;
reset quote_all_identifiers;
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'and nothing is out of date in another');

select * from finish();
rollback;
