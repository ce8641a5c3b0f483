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
delete from cache_invalidation.changes;
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
select is(array(select tgname from pg_trigger where tgrelid = 'public.things'::regclass and tgname like 'fencepost%' order by 1), '{fencepost_public_things,fencepost_public_things_truncate}', 'two triggers for all watches of a table, named after it');
select results_eq($$select count(*), min(p.proname collate "default"), min(t.tgfoid) = max(t.tgfoid) from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid where t.tgrelid = 'public.things'::regclass and t.tgname like 'fencepost%'$$, $$values (2::bigint, 'capture_public_things', true)$$, 'which call one function');
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
select is((select count(*) from pg_proc where pronamespace = 'cache_invalidation'::regnamespace and proname like 'capture%things%'), 0::bigint, 'no function is left');
select is((select count(*) from cache_invalidation.versions as v where v.rel = 'public.things'::regclass and v.retired is null), 0::bigint, 'no version is in force');
-- {row.column} is {column}
select cache_invalidation.watch('things', 'row:{row.t}:{"row".v}');
select cache_invalidation.watch('things', 'row:{t}:{v}');
select is((select array_agg(target) from cache_invalidation.watches where target like 'row:%'), array['row:{t}:{v}'], '{row.column} declares what {column} does');
select is(cache_invalidation.unwatch('things', 'row:{row.t}:{v}'), 1, 'and takes it back');
-- names of functions and triggers
create schema other;
create table other.things (id integer primary key);
create table public.other_things (id integer primary key);
create table public.a_table_with_a_name_that_is_long_but_allowed_by_postgres_1 (id integer primary key);
create table public.a_table_with_a_name_that_is_long_but_allowed_by_postgres_2 (id integer primary key);
create schema public_a;
create table public_a.b (id integer primary key);
create table public."a_b" (id integer primary key);
create function pg_temp.made_for(rel regclass) returns text[] language plpgsql as $$
begin
  perform cache_invalidation.watch(rel, 'named:{id}');
  return array(select t.tgname || ' ' || p.proname from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid where t.tgrelid = rel and t.tgname like 'fencepost%' order by 1 limit 1);
end
$$;
select is(pg_temp.made_for('other.things'), array['fencepost_other_things capture_other_things'], 'a name is made of schema and table');
select is(pg_temp.made_for('public.other_things'), array['fencepost_public_other_things capture_public_other_things'], 'of another table');
select is(pg_temp.made_for('public_a.b'), array['fencepost_public_a_b capture_public_a_b'], 'names that would be the same: the first');
select is(pg_temp.made_for('public.a_b'), array['fencepost_public_a_b_2 capture_public_a_b_2'], 'and the second');
select matches((pg_temp.made_for('public.a_table_with_a_name_that_is_long_but_allowed_by_postgres_1'))[1], '^fencepost_public_a_table_with_a_nam_[0-9a-f]{10} capture_public_a_table_with_a_nam_[0-9a-f]{10}$', 'a long name is hashed');
select isnt((pg_temp.made_for('public.a_table_with_a_name_that_is_long_but_allowed_by_postgres_2'))[1], (pg_temp.made_for('public.a_table_with_a_name_that_is_long_but_allowed_by_postgres_1'))[1], 'as a whole');
select is((select count(*) from cache_invalidation.problems()), 0::bigint, 'none of them is a problem');
select cache_invalidation.unwatch(rel::regclass) from unnest(array['other.things', 'public.other_things', 'public_a.b', 'public.a_b', 'public.a_table_with_a_name_that_is_long_but_allowed_by_postgres_1', 'public.a_table_with_a_name_that_is_long_but_allowed_by_postgres_2']) as rel;
-- more declarations than there are bits for them
create table public.crowded (id integer primary key, a integer default 0, b integer default 0);
select cache_invalidation.watch('public.crowded', 'crowd:' || i || ':{id}', columns => array[case when i % 2 = 0 then 'a' else 'b' end]) from generate_series(1, 65) as i;
insert into public.crowded values (1);
delete from cache_invalidation.changes;
update public.crowded set a = 1;
select set_has('select target from cache_invalidation.outbox', $$select 'crowd:' || i || ':1' from generate_series(2, 65, 2) as i$$, 'sixty-five watches with columns: none of those that an update concerns is forgotten');
select is((select count(*) from cache_invalidation.outbox where target ~ '^crowd:[1-5]?[13579]:'), 0::bigint, 'and of the first sixty no other fires');
select cache_invalidation.unwatch('public.crowded');

-- refused
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{nope}')$$), '^42703 the table (public\.)?things has no column nope \| Its columns are id, t, v', 'no such column');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{t}', columns => array['nope'])$$), '^42703 .* has no column nope', 'no such column in columns');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{t}', columns => '{}')$$), '^22023 columns is empty', 'empty columns');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{t}', min_interval => '0')$$), '^22023 min_interval must be positive', 'min_interval of zero');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{t}', min_interval => '400000 years')$$), '^22023 min_interval is at most a year', 'a min_interval beyond all times');
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
select matches(pg_temp.answer($$select cache_invalidation.watch('things_view', 'x:{t}')$$), '^42809 .* is a view \| .*Watch the tables', 'a view');
select matches(pg_temp.answer($$select cache_invalidation.watch('things_copy', 'x:{t}')$$), '^0A000 .* is a materialized view, which is refreshed as a whole \| Name a group', 'a materialized view for a {column}');
select is(pg_temp.answer($$select cache_invalidation.watch('things_copy', 'x:copy:*')$$), 'ok', 'a materialized view for a group');
select cache_invalidation.unwatch('things_copy');
select matches(pg_temp.answer($$select cache_invalidation.watch('temporary_things', 'x:{t}')$$), '^42809 .* is a temporary table', 'a temporary table');
select matches(pg_temp.answer($$select cache_invalidation.watch('pg_catalog.pg_class', 'x:{relname}')$$), '^42809 .* belongs to the system', 'a system catalog');
select matches(pg_temp.answer($$select cache_invalidation.watch('cache_invalidation.changes', 'x:{change}')$$), '^42809 .* belongs to the system', 'our own tables');
create foreign data wrapper nowhere;
create server nowhere foreign data wrapper nowhere;
create foreign table public.far (t text) server nowhere;
select matches(pg_temp.answer($$select cache_invalidation.watch('far', 'x:{t}')$$), '^42809 .* is a foreign table \| .*Install Fencepost in the database', 'a foreign table');
create collation public.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
alter table public.things add column lo text collate public.loose;
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{lo}')$$), '^0A000 .*its collation calls different texts equal', 'a nondeterministic collation');
create domain public.plan_domain as public.plan_kind;
create domain public.plan_domain_domain as public.plan_domain;
alter table public.things add column pd public.plan_domain, add column pdd public.plan_domain_domain;
select is(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{pd}:{pdd}')$$), 'ok', 'domains over an enum');
delete from cache_invalidation.changes;
insert into things (id, pd, pdd) values (2, 'a:b', 'free');
select is(array(select target from cache_invalidation.outbox), array['x:a%3Ab:free'], 'are rendered as the enum');
select cache_invalidation.unwatch('things');
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
  then matches(pg_temp.answer($$select cache_invalidation.watch('computed', 'x:{b}')$$), '^0A000 .*is a virtual generated column \| .*Make it a stored one', 'a virtual generated column')
  else matches((select answer from virtual), '^42601', 'virtual generated columns do not exist here') end;
select case when (select answer from virtual) = 'ok'
  then matches(pg_temp.answer($$select cache_invalidation.watch('computed', 'x:{a}', columns => array['b'])$$), '^0A000 .*is a virtual generated column', 'a virtual generated column in columns')
  else matches((select answer from virtual), '^42601', 'nor in columns') end;
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{o.t}')$$), '^22023 .*table alias o, which no join defines \| Add join', 'an alias without a join');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{p.t}', join => 'public.things o on o.id = row.id')$$), '^22023 .*table alias p, which no join defines \| Add join', 'an alias that is another');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{Big O.t}')$$), 'Add join => ''public.parent "Big O" on "Big O".id = row.parent_id''', 'a hint with an alias that has to be quoted');
select matches(pg_temp.answer($$select cache_invalidation.watch('things', 'x:{"a.b".t}')$$), '^22023 .* \| An alias is written without quotes: \{o.user_id\}', 'a quoted alias');
create table public.owners (id integer primary key, tenant integer, code extensions.citext unique, name text, loose text collate public.loose unique, local text, ratio double precision unique, starts date unique, seen timestamptz unique, part text unique, unique (tenant, name));
create unique index owners_partly on public.owners (local) where tenant > 0;
create unique index owners_lower on public.owners (lower(local));
create index owners_many on public.owners (local);
create unique index owners_with on public.owners (part) include (local);
create table public.owned (id integer primary key, owner_id integer constraint owned_by references public.owners, tenant integer, name text, code extensions.citext constraint coded references public.owners (code), loose text collate public.loose, ratio double precision, at timestamptz, day date, constraint "of both" foreign key (tenant, name) references public.owners (tenant, name));
create view public.owners_view as select * from public.owners;
create materialized view public.owners_copy as select * from public.owners;
create unique index on public.owners_copy (id);
create table public."row" (id integer primary key, name text);
alter table public.owned add constraint of_row foreign key (id) references public."row" not valid;
select is(pg_temp.answer(format($$select cache_invalidation.watch('public.owned', 'x:{%s.name}', join => %L)$$, alias, clause)), 'ok', 'a join: ' || clause)
from (values ('owners', 'owned_by'), ('owners', 'of both'), ('o', 'public.owners o on o.id = row.owner_id'), ('o', 'public.owners as o on row.owner_id = o.id'), ('o', E' public . owners\n"o" ON "row".owner_id=o."id" '),
  ('o', 'public.owners o on o.tenant = row.tenant and o.name = row.name'), ('o', 'public.owners o on o.name = row.name and row.tenant = o.tenant'), ('Big O', 'public.owners "Big O" on "Big O".id = row.owner_id'),
  ('p', 'public.owners o on o.id = row.owner_id join public.owners p on p.id = o.tenant'), ('p', 'public.owners o on o.id = row.owner_id left outer join public.owners as p on o.tenant = p.tenant and row.name = p.name'), ('o', 'public.owners o on o.id = row.owner_id inner join public.owners p on p.id = row.tenant'),
  ('O', 'PUBLIC.OWNERS "O" ON "O".ID = ROW.OWNER_ID'), ('o', 'public.owners o on o.part = row.name')) as v(alias, clause);
select cache_invalidation.unwatch('public.owned');
select is((select count(*) from cache_invalidation.watches where rel in ('public.owned'::regclass, 'public.owners'::regclass)), 0::bigint, 'and nothing is left of them');
select matches(pg_temp.answer(format($$select cache_invalidation.watch('public.owned', 'x:{o.name}', join => %L)$$, clause)), '^22023 (cannot read the join|the join) .* \| Write the name of a foreign key, or its text: public.orders o on', 'no plain join: ' || clause)
from unnest(array['owners o on o.id = row.owner_id', 'public.owners o', 'public.owners on id = owner_id', 'public.owners o on o.id = owner_id', 'public.owners o on o.id = row.owner_id or o.id = row.id', 'public.owners o on (o.id = row.owner_id)',
  'public.owners o on o.id > row.owner_id', 'public.owners o on o.id = row.owner_id + 1', 'public.owners o on o.id::text = row.name', 'public.owners o on o.id = row.owner_id and o.name = ''x''', 'public.owners o on lower(o.name) = row.name', 'public.owners o on o.id = row.owner_id where true',
  'public.owners o on o.id = row.owner_id; drop table public.owned', 'public.owners o on o.id = row.owner_id -- comment', 'public.owners o using (id)', 'lateral public.owners o on o.id = row.owner_id', '(select * from public.owners) o on o.id = row.owner_id', 'public.owners o on o.id = o.tenant',
  'public.owners o on o.id = row.owner_id join public.owners o on o.id = row.id', 'public.owners row on row.id = row.owner_id', 'public.owners o on o.id = row.owner_id cross join public.owners p', 'public.owners o on o.id = row.owner_id right join public.owners p on p.id = o.tenant', 'public.owners o on o.id = row.owner_id, public.owners p', 'public.owners o on o.id = p.tenant join public.owners p on p.id = row.id',
  'owned_pkey', 'nothing', 'Owned_By', 'postgres.public.owners o on o.id = row.owner_id', 'public.owners "o on o.id = row.owner_id']) as clause;
create table public."a.b" (id integer primary key, name text);
create table public."c:d" (id integer primary key, name text);
create table public."e""f" (id integer primary key, name text);
create table public."{g}" (id integer primary key, name text);
alter table public.owned add constraint of_point foreign key (id) references public."a.b" not valid, add constraint of_colon foreign key (id) references public."c:d" not valid,
  add constraint of_quote foreign key (id) references public."e""f" not valid, add constraint of_braces foreign key (id) references public."{g}" not valid;
select is(pg_temp.answer(format($$select cache_invalidation.watch('public.owned', 'x:{o.name}', join => %L)$$, name)),
  format('22023 the join %L is a foreign key to public.%I, whose name cannot be an alias | Write it as text, with an alias of your own: ''public.%2$I parent on parent.id = row.id''.', name, parent), 'a foreign key to ' || parent)
from (values ('of_row', 'row'), ('of_point', 'a.b'), ('of_colon', 'c:d'), ('of_quote', 'e"f'), ('of_braces', '{g}')) as v(name, parent);
select is(pg_temp.answer($$select cache_invalidation.watch('public.owned', 'x:{parent.name}', join => 'public."a.b" parent on parent.id = row.id')$$), 'ok', 'and the text that is proposed');
select cache_invalidation.unwatch('public.owned');
select matches(pg_temp.answer($$select cache_invalidation.watch('public.owned', 'x:{o.name}', join => 'public.nope o on o.id = row.id')$$), '^42P01 the joined table public.nope does not exist', 'a join with a missing table');
select matches(pg_temp.answer($$select cache_invalidation.watch('public.owned', 'x:{o.name}', join => 'public.owners o on o.nope = row.id')$$), '^42703 the table (public\.)?owners has no column nope \| Its columns are id, tenant', 'a join with a missing column');
select matches(pg_temp.answer($$select cache_invalidation.watch('public.owned', 'x:{o.name}', join => 'public.owners o on o.id = row.nope')$$), '^42703 the table (public\.)?owned has no column nope', 'a join with a missing column of the row');
select matches(pg_temp.answer(format($$select cache_invalidation.watch('public.owned', 'x:{o.name}', join => %L)$$, 'public.owners o on ' || clause)), '^0A000 public.owners is not joined by a key: \(.*\) is none \| Join by the columns of a primary key', 'no key: ' || clause)
from unnest(array['o.local = row.name', 'o.name = row.name', 'o.tenant = row.tenant', 'o.id = row.id and o.tenant = row.tenant', 'o.local = row.name and o.part = row.name']) as clause;
select matches(pg_temp.answer(format($$select cache_invalidation.watch('public.owned', 'x:{%s.name}', join => %L)$$, alias, clause)), '^0A000 .*cannot be part of a key: .*stored generated column', 'a key without canonical text: ' || clause)
from (values ('o', 'public.owners o on o.code = row.code'), ('owners', 'coded'), ('o', 'public.owners o on o.loose = row.loose'), ('o', 'public.owners o on o.ratio = row.ratio'), ('o', 'public.owners o on o.part = row.code')) as v(alias, clause);
select matches(pg_temp.answer(format($$select cache_invalidation.watch('public.owned', 'x:{o.name}', join => %L)$$, 'public.owners o on ' || clause)), '^42804 the join compares .* of public.owners, which is .*, with .* of public.owned, which is .* \| Give both columns the same type', 'another type: ' || clause)
from unnest(array['o.seen = row.day', 'o.starts = row.at', 'o.id = row.name', 'o.part = row.id', 'o.seen = row.name']) as clause;
select matches(pg_temp.answer($$select cache_invalidation.watch('public.owned', 'x:{o.ratio}', join => 'public.owners o on o.id = row.owner_id')$$), '^0A000 .*cannot be part of a key', 'a joined column of an unsafe type');
select matches(pg_temp.answer(format($$select cache_invalidation.watch('public.owned', 'x:{o.name}', join => 'public.owners_%s o on o.id = row.owner_id')$$, kind)), '^42809 public.owners_', 'a join with a ' || kind)
from unnest(array['view', 'copy']) as kind;
create table public.spread (id integer primary key, name text);
create foreign table public.spread_far () inherits (public.spread) server nowhere;
select matches(pg_temp.answer($$select cache_invalidation.watch('public.owned', 'x:{s.name}', join => 'public.spread s on s.id = row.id')$$), '^42809 public.spread is joined, and has foreign tables below it \| A claim would wait', 'a join with a table that has a foreign child');
select is((select count(*) from cache_invalidation.watches where rel in ('public.owned'::regclass, 'public.owners'::regclass)), 0::bigint, 'nothing of a refused join left a trace');
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
create table public.own (id integer primary key, t text);
alter table public.own owner to fencepost_test_admin;
grant all on all tables in schema cache_invalidation to fencepost_test_admin;
set local role fencepost_test_admin;
select matches(pg_temp.answer($$select cache_invalidation.watch('public.own', 'x:{o.t}', join => 'public.things o on o.id = row.id')$$), '^42501 .* may not create triggers on public.things: .* or keep what a key needs of it in a table of your own', 'nor the joined one, as auth.users on Supabase');
reset role;

select * from finish();
rollback;
