-- Names: tables and columns may be called anything, be renamed to anything, and change names with each other.
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

-- each name is watched for a key of its own, with and without `columns`, in a table with a name of the same kind
create schema "S %s ""q"" $body$";
create temporary table names as
  select n.name, n.place, 'n' || n.place as type
  from unnest(array[
    'Org %s "q"', E'a\nb', E'tab\t\r\f', '$body$', '%', '%1$s', '\', 'x\y', '\1', '\&', '''', '''); --', '"', '""', '{', '}', 'a:b', 'a.b', '{a}', ':', '*', ' ', 'ü–𝄞',
    'row', 'before', 'only_target', 'targets', 'changed', 'failure', 'old_rows', 'new_rows', 'new', 'old', 'tg_op', 'sqlstate', 'found', 'none', 'target', 'error', 'o', 'n', 'r', 't',
    'projection_0', 'projection_1', 'select', 'value', 'record', 'op', 'watch_id', 'xid', repeat('x', 63)
  ]) with ordinality as n(name, place);
create function pg_temp.make_table(table_name text, rest text) returns void language plpgsql as $$
begin
  execute format('create table "S %%s ""q"" $body$".%I (k integer, %s) %s', table_name,
    (select string_agg(format('%I text', n.name), ', ' order by n.place) from names as n), rest);
  perform cache_invalidation.watch(format('"S %%s ""q"" $body$".%I', table_name), n.type || ':' || cache_invalidation.placeholder(n.name), columns => array['k']),
    cache_invalidation.watch(format('"S %%s ""q"" $body$".%I', table_name), n.type || ':all:' || cache_invalidation.placeholder(n.name))
  from names as n;
end
$$;
create function pg_temp.expected(op text, rows integer[]) returns text[] language sql as $$
  select array_agg(op || ' ' || n.type || kind || n.place || '-' || r order by (n.type || kind || n.place || '-' || r) collate "C")
  from names as n, unnest(array[':', ':all:']) as kind, unnest(rows) as r
$$;
create function pg_temp.inserted(table_name text, rows integer[]) returns text language sql as $$
  select format('insert into "S %%s ""q"" $body$".%I select r.i, %s from unnest(%L::integer[]) as r(i)', table_name,
    (select string_agg(format('%L || r.i', n.place || '-'), ', ' order by n.place) from names as n), rows)
$$;
select pg_temp.make_table(E'T ''%1$s'' \\ $$ \n "x"', '');
select pg_temp.make_table('%s', 'partition by list (k)');
create table public.names_default partition of "S %s ""q"" $body$"."%s" default;
select is(pg_temp.captured(pg_temp.inserted(name, '{1}')), pg_temp.expected('i', '{1}'), 'INSERT of one row into ' || to_json(name)) as test_1,
  is(pg_temp.captured(pg_temp.inserted(name, '{2,3}')), pg_temp.expected('i', '{2,3}'), 'INSERT of several rows into ' || to_json(name)) as test_2,
  is(pg_temp.captured(format('update "S %%s ""q"" $body$".%I set k = 4 where k = 1', name)), pg_temp.expected('u', '{1}'), 'UPDATE of one row of ' || to_json(name)) as test_3,
  is(pg_temp.captured(format('update "S %%s ""q"" $body$".%I set k = k + 10 where k < 4', name)), pg_temp.expected('u', '{2,3}'), 'UPDATE of several rows of ' || to_json(name)) as test_4,
  is(pg_temp.captured(format('delete from "S %%s ""q"" $body$".%I where k = 4', name)), pg_temp.expected('d', '{1}'), 'DELETE of one row of ' || to_json(name)) as test_5,
  is(pg_temp.captured(format('delete from "S %%s ""q"" $body$".%I', name)), pg_temp.expected('d', '{2,3}'), 'DELETE of several rows of ' || to_json(name)) as test_6
from unnest(array[E'T ''%1$s'' \\ $$ \n "x"', '%s']) as name;
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'problems() has nothing against any of these names');

-- a watched table and its columns renamed to each of these names, beside two hundred watches of other tables
create table public.plain (id integer primary key, org_id text, used integer, extra text);
create table public.parents (id text primary key, user_id text);
insert into public.parents values ('a', 'u');
select cache_invalidation.watch('public.plain', 'plain:{org_id}:*', columns => array['used']);
select cache_invalidation.watch('public.plain', 'user:{p.user_id}:list', join => 'public.parents p on p.id = row.org_id and ''row.org_id'' <> row.extra');
insert into public.plain values (1, 'a', 0, '');
create function pg_temp.rename_to(new_name text) returns text language plpgsql as $$
declare
  now_called text := (select attname from pg_attribute where attrelid = 'public.plain'::regclass and attnum = 2);
begin
  return pg_temp.answer(format('alter table public.plain rename column %I to %I', now_called, new_name));
end
$$;
select is(pg_temp.rename_to(n.name), 'ok', 'a column can be renamed to ' || to_json(n.name)) as renamed,
  is(pg_temp.captured('update public.plain set used = used + 1'), array['u plain:a:*', 'u user:u:list'], 'and is followed') as followed
from names as n order by n.place;
select is(pg_temp.rename_to('org_id'), 'ok', 'and back');
select results_eq($$select target, columns, join_clause from cache_invalidation.watches where rel = 'public.plain'::regclass order by id$$,
  $$values ('plain:{org_id}:*', array['used'], null), ('user:{p.user_id}:list', null, 'public.parents p on p.id = row.org_id and ''row.org_id'' <> row.extra')$$,
  'the declaration is as it was, strings in the join included');
create function pg_temp.rename_table(new_name text) returns text language plpgsql as $$
declare
  now_called text := (select c.relname from cache_invalidation.watches as w join pg_class as c on c.oid = w.rel where w.target = 'plain:{org_id}:*');
begin
  return pg_temp.answer(format('alter table public.%I rename to %I', now_called, new_name))
    || ' ' || array_to_string(pg_temp.captured(format('update public.%I set used = used + 1', new_name)), ',');
end
$$;
select is(pg_temp.rename_table(n.name), 'ok u plain:a:*,u user:u:list', 'a watched table can be renamed to ' || to_json(n.name))
from names as n order by n.place;
select is(pg_temp.rename_table('plain'), 'ok u plain:a:*,u user:u:list', 'and back');

-- (problems() looks at every watch, renames did not)
drop schema "S %s ""q"" $body$" cascade;

-- several names at once
select is(cache_invalidation.rename_in_target('x:{a}:{b}:{o.a}:{row.a}:a', '{"a": "b", "b": "c"}'), 'x:{b}:{c}:{o.a}:{b}:a', 'names in a target change all at once');
select is(cache_invalidation.rename_in_join('public.o a on a.a = row.a and row.b=a."row.a" and row."a"<>''row.a'' and arow.a', '{"a": "b", "b": "\\1"}'),
  'public.o a on a.a = row.b and row."\1"=a."row.a" and row.b<>''row.a'' and arow.a', 'names in a join change all at once, strings and other names do not');

-- swaps
create table public.swapped (id integer primary key, a text, b text);
select cache_invalidation.watch('public.swapped', 'swap:{a}:*', columns => array['a'], min_interval => '1 minute');
alter table public.swapped rename column a to a_old;
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'a renamed column is no problem');
alter table public.swapped rename column b to a;
select is(pg_temp.captured($$insert into public.swapped values (1, 'first', 'second')$$), array['i swap:first:*'], 'a column is followed by its number when another takes its name');
select results_eq($$select problem, remedy from cache_invalidation.problems() where watch_id is not null$$,
  $$values ('the watch of public.swapped for ''swap:{a_old}:*'' follows the column a_old, which was called a; another column is called that now',
    'To watch the other one instead: select cache_invalidation.unwatch(''public.swapped'', ''swap:{a_old}:*''); '
    'select cache_invalidation.watch(''public.swapped'', ''swap:{a}:*'', columns => ''{a}'', min_interval => ''00:01:00''); '
    'To keep this one: select cache_invalidation.watch(''public.swapped'', ''swap:{a_old}:*'', columns => ''{a_old}'', min_interval => ''00:01:00'');')$$, 'problems() names the swap and both remedies');
select cache_invalidation.watch('public.swapped', 'swap:{a_old}:*', columns => array['a_old'], min_interval => '1 minute');
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'watch() for the one settles it');
create table public.swapped_new (like public.swapped including all);
alter table public.swapped rename to swapped_old;
alter table public.swapped_new rename to swapped;
select matches((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), '^the watch of public.swapped_old for ''swap:\{a_old\}:\*'' was declared when that was called public.swapped, which is another table now$', 'problems() names a swapped table');
select is(pg_temp.captured($$insert into public.swapped_old values (2, 'first', 'second')$$), array['i swap:first:*'], 'the table is followed');
select cache_invalidation.unwatch('public.swapped_old'), cache_invalidation.watch('public.swapped', 'swap:{a_old}:*');
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'watch() for the other settles it');

-- without event triggers: two names that move on, and two that change places, before refresh()
drop event trigger fencepost_ddl;
drop event trigger fencepost_drop;
create table public.moved (a text, b text, c text);
select cache_invalidation.watch('public.moved', 'moved:{a}:{b}:{c}', columns => array['c', 'b', 'a'], join => 'public.parents p on p.id = row.b and p.user_id = row.a');
alter table public.moved rename column c to d;
alter table public.moved rename column b to c;
alter table public.moved rename column a to b;
select matches((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'no column a', 'problems() before refresh()');
select cache_invalidation.refresh();
select results_eq($$select target, columns, join_clause from cache_invalidation.watches where rel = 'public.moved'::regclass$$,
  $$values ('moved:{b}:{c}:{d}', array['d', 'c', 'b'], 'public.parents p on p.id = row.c and p.user_id = row.b')$$, 'chained renames are followed in target, columns and join');
alter table public.moved rename column b to e;
alter table public.moved rename column d to b;
alter table public.moved rename column e to d;
select matches((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'columns of public.moved were renamed', 'problems() when names have changed places');
select cache_invalidation.refresh();
select is(pg_temp.captured($$insert into public.moved values ('1', '2', '3')$$), array['i moved:1:2:3'], 'columns that changed places are followed by number');
select matches((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'follows the column c, which was called b and b, which was called c; another', 'and problems() names them');

-- without event triggers: columns that change places, and with them the targets of two watches
create table public.crossed (a text, b text, c text);
select cache_invalidation.watch('public.crossed', 'crossed:{a}', columns => array['a']);
select cache_invalidation.watch('public.crossed', 'crossed:{b}', columns => array['b'], min_interval => '1 minute');
alter table public.crossed rename column a to kept;
alter table public.crossed rename column b to a;
alter table public.crossed rename column kept to b;
select is(pg_temp.answer('select cache_invalidation.refresh()'), 'ok', 'refresh() when two watches change targets with each other');
select results_eq($$select target, columns, min_interval from cache_invalidation.watches where rel = 'public.crossed'::regclass order by id$$,
  $$values ('crossed:{b}', array['b'], null::interval), ('crossed:{a}', array['a'], interval '1 minute')$$, 'each follows its own column');
alter table public.crossed drop column a;
alter table public.crossed rename column b to a;
select matches(pg_temp.answer('select cache_invalidation.refresh()'),
  '^23505 the watch of public.crossed for ''crossed:\{b\}'' follows a rename to ''crossed:\{a\}'', which is watched already \| First: select cache_invalidation.unwatch\(''public.crossed'', ''crossed:\{a\}''\)', 'two watches that would become one');
select results_eq($$select target from cache_invalidation.watches where rel = 'public.crossed'::regclass order by id$$, $$values ('crossed:{b}'), ('crossed:{a}')$$, 'nothing has moved then');
select cache_invalidation.unwatch('public.crossed', 'crossed:{a}');
select is(pg_temp.answer('select cache_invalidation.refresh()'), 'ok', 'the hint settles it');
select results_eq($$select target from cache_invalidation.watches where rel = 'public.crossed'::regclass$$, $$values ('crossed:{a}')$$, 'one is left');
select cache_invalidation.unwatch('public.crossed');

-- a restored dump: the table has another oid, and its columns other numbers
update cache_invalidation.watches
  set declared_oid = 1, column_numbers = '{"b": 1, "c": 3, "d": 2}', declared_columns = '{"b": 1, "c": 3, "d": 2}'
  where rel = 'public.moved'::regclass;
select matches((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'columns of public.moved were renamed, or restored', 'problems() after a restore');
select doesnt_match((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'another column is called that now', 'which takes no column for another');
select cache_invalidation.refresh();
select results_eq($$select target, column_numbers from cache_invalidation.watches where rel = 'public.moved'::regclass$$,
  $$values ('moved:{d}:{c}:{b}', '{"d": 1, "c": 2, "b": 3}'::jsonb)$$, 'after a restore names count, and numbers are read anew');

select * from finish();
rollback;
