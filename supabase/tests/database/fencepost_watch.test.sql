-- watch() and unwatch(): what they accept, what they refuse and with which hint.
begin;
create extension if not exists pgtap with schema extensions;
create extension if not exists citext with schema extensions;
set local search_path = public, extensions;
select no_plan();

create type public.plan_kind as enum ('free', 'a:b');
create domain public.short_code as text check (length(value) < 10);
create table public.things (
  id integer primary key, t text, v varchar(20), c char(6), u uuid, i2 smallint, i8 bigint, n numeric, b boolean, d date, ts timestamp,
  tz timestamptz, e public.plan_kind, raw bytea, code public.short_code, f double precision, j jsonb, a text[], ci citext
);
create view public.things_view as select * from public.things;
create materialized view public.things_copy as select * from public.things;
create temporary table temporary_things (t text);

-- Calls, and gives "SQLSTATE message | hint", or "ok".
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

-- accepted, and rendered
select is(pg_temp.answer($$select cache_invalidation.watch('things', 'all:{t}:{v}:{c}:{u}:{i2}:{i8}:{n}:{b}:{d}:{ts}:{tz}:{e}:{raw}:{code}')$$), 'ok', 'every type that can be part of a key');
set local timezone = 'Asia/Kolkata';
set local datestyle = 'SQL, DMY';
set local bytea_output = 'escape';
delete from cache_invalidation.outbox;
insert into things values (1, 'a:b', 'v', 'c', '0A0B0C0D-0000-4000-8000-00000000000F', -1, 9007199254740993, 1.500, true, '2026-11-01', '2026-11-01 10:00', '2026-11-01 10:00+05:30', 'a:b', '\xDEADbeef', 'x');
select is((select target from cache_invalidation.outbox where error is null and op = 'i'),
  'all:a%3Ab:v:c:0a0b0c0d-0000-4000-8000-00000000000f:-1:9007199254740993:1.5:true:2026-11-01:2026-11-01T10%3A00%3A00:2026-11-01T04%3A30%3A00Z:a%3Ab:deadbeef:x',
  'every type is rendered alike whatever the session says');
reset timezone;
reset datestyle;
reset bytea_output;

-- idempotent, replaced, several, taken back
create temporary table ids as select cache_invalidation.watch('things', 'thing:{id}') as id;
select is(cache_invalidation.watch('things', 'thing:{id}'), (select id from ids), 'watch() again gives the same watch');
select is(cache_invalidation.watch('things', 'thing:{id}', columns => array['t'], min_interval => '1 minute'), (select id from ids), 'another declaration replaces the old one');
select results_eq($$select columns, min_interval from cache_invalidation.watches where target = 'thing:{id}'$$, $$values (array['t'], interval '1 minute')$$, 'and is stored');
select is((select count(*) from pg_trigger where tgrelid = 'public.things'::regclass and tgname like 'fencepost%'), 8::bigint, 'four triggers for each of two watches');
select is((select count(*) from pg_trigger where tgrelid = 'public.things'::regclass and tgenabled <> 'A'), 0::bigint, 'all of them ENABLE ALWAYS');
select is((select count(*) from cache_invalidation.problems()), 0::bigint, 'problems() is empty in good order');
alter table public.things disable trigger all;
select matches((select string_agg(problem, '; ') from cache_invalidation.problems()), 'missing or disabled', 'problems() names disabled triggers');
select cache_invalidation.refresh();
select is((select count(*) from cache_invalidation.problems()), 0::bigint, 'refresh() enables them');
select is(cache_invalidation.unwatch('things', 'thing:{id}'), 1, 'unwatch one target');
select is(cache_invalidation.unwatch('things'), 1, 'unwatch the others');
select is(cache_invalidation.unwatch('things'), 0, 'unwatch what is not watched');
select is((select count(*) from pg_trigger where tgrelid = 'public.things'::regclass and tgname like 'fencepost%'), 0::bigint, 'no trigger is left');
select is((select count(*) from pg_proc where pronamespace = 'cache_invalidation'::regnamespace and proname ~ '^(capture|reduce)_\d+$' and prosrc like '%public.things:%'), 0::bigint, 'no function is left');

-- refused
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{nope}')$$), '^42703 the table (public\.)?things has no column nope \| Its columns are id, t, v', 'no such column');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{t}', columns => array['nope'])$$), '^42703 .* has no column nope', 'no such column in columns');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{t}', columns => '{}')$$), '^22023 columns is empty', 'empty columns');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{t}', min_interval => '0')$$), '^22023 min_interval must be positive', 'min_interval of zero');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', null)$$), '^22023 .*no segment after its type', 'a null target');
select matches(pg_temp.answer($$select cache_invalidation.watch(null, 'x:{t}')$$), '^22004 watch\(\) needs a table', 'a null table');
select matches(pg_temp.answer(format('select cache_invalidation.watch(%L, %L)', 'things', 'x' || repeat(':{t}', 32))), '^22023 the target has more than 32 segments', 'a target of 33 segments');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', '*')$$), '^22023 .*would empty the whole cache', 'a target of everything');
select matches(pg_temp.answer(format('select cache_invalidation.watch(%L, %L)', 'things', reserved || ':{id}')), '^22023 the type ' || reserved || ' of the target .* is reserved.* \| Give the type another name', 'a reserved type: ' || reserved)
from unnest(array['fence', 'fencepost']) as reserved;
select is(pg_temp.answer($$select cache_invalidation.watch('things', 'fences:{id}')$$), 'ok', 'a type whose name only begins like it');
select cache_invalidation.unwatch('things');
select matches(pg_temp.answer(format('select cache_invalidation.watch(%L, %L)', 'things', bad)), '^22023 .*A target is type:segment', 'a bad template: ' || bad)
from unnest(array['x', '', 'x:', ':x', 'x::y', '{t}:x', 'x:{t', 'x:a{t}', 'x:{t}{v}', 'x:*:y', 'x:a*', 'x:ä', 'x:a b', 'x:{}', 'x:%41', '~x:y', E'x:a\n']) as bad;
select matches(pg_temp.answer(format('select cache_invalidation.watch(%L, %L)', 'things', 'x:{' || col || '}')), '^0A000 .*cannot be part of a key: its type is .*generated column', 'a type without canonical text: ' || col)
from unnest(array['f', 'j', 'a', 'ci']) as col;
select matches(pg_temp.answer($$select cache_invalidation.watch('things_view', 'x:{t}')$$), '^42809 .* is a view \| Watch the tables', 'a view');
select matches(pg_temp.answer($$select cache_invalidation.watch('things_copy', 'x:{t}')$$), '^42809 .* is a view', 'a materialized view');
select matches(pg_temp.answer($$select cache_invalidation.watch('temporary_things', 'x:{t}')$$), '^42809 .* is a temporary table', 'a temporary table');
select matches(pg_temp.answer($$select cache_invalidation.watch('pg_catalog.pg_class', 'x:{relname}')$$), '^42809 .* belongs to the system', 'a system catalog');
select matches(pg_temp.answer($$select cache_invalidation.watch('cache_invalidation.outbox', 'x:{target}')$$), '^42809 .* belongs to the system', 'our own tables');
create foreign data wrapper nowhere;
create server nowhere foreign data wrapper nowhere;
create foreign table public.far (t text) server nowhere;
select matches(pg_temp.answer($$select cache_invalidation.watch('far', 'x:{t}')$$), '^42809 .* is a foreign table \| Install Fencepost in the database', 'a foreign table');
create collation public.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
alter table public.things add column lo text collate public.loose;
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{lo}')$$), '^0A000 .*its collation calls different texts equal', 'a nondeterministic collation');
create domain public.plan_domain as public.plan_kind;
create domain public.plan_domain_domain as public.plan_domain;
alter table public.things add column pd public.plan_domain, add column pdd public.plan_domain_domain;
select matches(pg_temp.answer(format('select cache_invalidation.watch(%L, %L)', 'things', 'x:{' || col || '}')), '^0A000 the column .* cannot be part of a key: its type is .*plan_domain.*, a domain over an enum \| Use the enum itself', 'a domain over an enum: ' || col)
from unnest(array['pd', 'pdd']) as col;
do $$
declare
  base text;
begin
  foreach base in array array['text', 'varchar', 'char(6)', 'name', 'uuid', 'int2', 'int4', 'int8', 'numeric', 'bool', 'date', 'timestamp', 'timestamptz', 'bytea'] loop
    execute format('create domain public.%I as %s; alter table public.things add column %1$I public.%1$I', 'd_' || base, base);
  end loop;
end
$$;
select is(pg_temp.answer(format('select cache_invalidation.watch(%L, %L)', 'things', 'x:{' || a.attname || '}')), 'ok', 'a domain: ' || a.attname)
from pg_attribute as a where a.attrelid = 'public.things'::regclass and a.attname like 'd\_%';
select cache_invalidation.unwatch('things');
-- virtual generated columns exist since Postgres 18; before, the table cannot be made and there is nothing to refuse
create temporary table virtual as select pg_temp.answer('create table public.computed (a text, b text generated always as (a) virtual)') as answer;
select case when (select answer from virtual) = 'ok'
  then matches(pg_temp.answer($$select cache_invalidation.watch('computed', 'x:{b}')$$), '^0A000 .*is a virtual generated column \| Make it a stored one', 'a virtual generated column')
  else matches((select answer from virtual), '^42601', 'virtual generated columns do not exist here') end;
select case when (select answer from virtual) = 'ok'
  then matches(pg_temp.answer($$select cache_invalidation.watch('computed', 'x:{a}', columns => array['b'])$$), '^0A000 .*is a virtual generated column', 'a virtual generated column in columns')
  else matches((select answer from virtual), '^42601', 'nor in columns') end;
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{o.t}')$$), '^22023 .*table alias o, which no join defines \| Add join', 'an alias without a join');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{o.t}', join => 'things o on o.id = row.id')$$), '^22023 cannot read the join .*\| Write schema.table alias on', 'a join without a schema');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{o.t}', join => 'public.nope o on o.id = row.id')$$), '^42P01 the joined table public.nope does not exist', 'a join with a missing table');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{o.t}', join => 'public.things o on o.nope = row.id')$$), '^42703 the watch of .* cannot be planned: column o.nope does not exist', 'a join with a missing column');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{o.t}', join => 'public.things o on o.id = row.id; drop table public.things')$$), '^42601 .*cannot be planned', 'a join that is no condition');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{o.f}', join => 'public.things o on o.id = row.id')$$), '^0A000 .*cannot be part of a key', 'a joined column of an unsafe type');
select is((select count(*) from cache_invalidation.watches where rel = 'public.things'::regclass), 0::bigint, 'nothing that was refused left a trace');


-- in a transaction that has written to the table
create table public.pending (id integer references public.things deferrable initially deferred);
insert into things (id) values (77);
insert into pending values (77);
select matches(pg_temp.answer($$select cache_invalidation.watch('pending', 'pending:{id}')$$), '^55006 the table public.pending has pending trigger events.*set constraints all immediate', 'a table with pending trigger events');
set constraints all immediate;
select is(pg_temp.answer($$select cache_invalidation.watch('pending', 'pending:{id}')$$), 'ok', 'can be watched once they are done');
insert into pending values (77);
select is((select count(*) from cache_invalidation.outbox where target = 'pending:77'), 1::bigint, 'and later writes of the transaction count');

-- rights
create role fencepost_test_admin;
grant usage on schema extensions to fencepost_test_admin;
set local role fencepost_test_admin;
select matches(pg_temp.answer($$select cache_invalidation.watch('public.things', 'x:{t}')$$), '^42501 permission denied for schema', 'a role without rights on the schema');
reset role;
grant usage on schema cache_invalidation to fencepost_test_admin;
grant execute on all functions in schema cache_invalidation to fencepost_test_admin;
set local role fencepost_test_admin;
select matches(pg_temp.answer($$select cache_invalidation.watch('public.things', 'x:{t}')$$), '^42501 .* may not create functions in the schema cache_invalidation \| Run watch\(\) as', 'a role that may not create functions there');
reset role;
grant create on schema cache_invalidation to fencepost_test_admin;
set local role fencepost_test_admin;
select matches(pg_temp.answer($$select cache_invalidation.watch('public.things', 'x:{t}')$$), '^42501 the role fencepost_test_admin may not create triggers on .* \| Run watch\(\) as', 'a role that does not own the table');
reset role;

select * from finish();
rollback;
