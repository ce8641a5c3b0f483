-- Names: tables and columns may be called anything, be renamed to anything, and change names with each other.
\ir fencepost_preamble.psql

-- each name is watched for a key of its own, with `columns`, in a table with a name of the same kind
create schema "S %s ""q"" $body$";
create temporary table names as
  select n.name, n.place, 'n' || n.place as type
  from unnest(array[
    'Org %s "q"', E'a\nb', E'tab\t\r\f', '$body$', '%', '%1$s', '\', 'x\y', '\1', '\&', '''', '''); --', '"', '""', '{', '}', 'a:b', 'a.b', '{a}', ':', '*', ' ', 'ü–𝄞',
    'row', 'before', 'only_target', 'targets', 'changed', 'failure', 'old_rows', 'new_rows', 'new', 'old', 'tg_op', 'sqlstate', 'found', 'none', 'target', 'error', 'o', 'n', 'r', 't',
    'select', 'value', 'record', 'op', 'watch_id', 'xid', 'key', 'old_key', 'fired', 'change', 'nothing', 'c', 'k', 'k1', 'x', 'part', 'version', repeat('x', 63)
  ]) with ordinality as n(name, place);
create function pg_temp.make_table(table_name text, rest text) returns void language plpgsql as $$
begin
  execute format('create table "S %%s ""q"" $body$".%I (counted integer, %s) %s', table_name,
    (select string_agg(format('%I text', n.name), ', ' order by n.place) from names as n), rest);
  perform cache_invalidation.watch(format('"S %%s ""q"" $body$".%I', table_name), n.type || ':' || cache_invalidation.placeholder('', n.name), columns => array['counted'])
  from names as n;
end
$$;
create function pg_temp.expected(op text, rows integer[]) returns text[] language sql as $$
  select array_agg(op || ' ' || n.type || ':' || n.place || '-' || r order by (n.type || ':' || n.place || '-' || r) collate "C")
  from names as n, unnest(rows) as r
$$;
create function pg_temp.inserted(table_name text, rows integer[]) returns text language sql as $$
  select format('insert into "S %%s ""q"" $body$".%I select r.i, %s from unnest(%L::integer[]) as r(i)', table_name,
    (select string_agg(format('%L || r.i', n.place || '-'), ', ' order by n.place) from names as n), rows)
$$;
select pg_temp.make_table(E'T ''%1$s'' \\ $$ \n "x"', '');
select pg_temp.make_table('%s', 'partition by list (counted)');
create table public.names_default partition of "S %s ""q"" $body$"."%s" default;
select is(pg_temp.captured(pg_temp.inserted(name, '{1}')), pg_temp.expected('i', '{1}'), 'INSERT of one row into ' || to_json(name)) as test_1,
  is(pg_temp.captured(pg_temp.inserted(name, '{2,3}')), pg_temp.expected('i', '{2,3}'), 'INSERT of several rows into ' || to_json(name)) as test_2,
  is(pg_temp.captured(format('update "S %%s ""q"" $body$".%I set counted = 4 where counted = 1', name)), pg_temp.expected('u', '{1}'), 'UPDATE of one row of ' || to_json(name)) as test_3,
  is(pg_temp.captured(format('update "S %%s ""q"" $body$".%I set counted = counted + 10 where counted < 4', name)), pg_temp.expected('u', '{2,3}'), 'UPDATE of several rows of ' || to_json(name)) as test_4,
  is(pg_temp.captured(format('delete from "S %%s ""q"" $body$".%I where counted = 4', name)), pg_temp.expected('d', '{1}'), 'DELETE of one row of ' || to_json(name)) as test_5,
  is(pg_temp.captured(format('delete from "S %%s ""q"" $body$".%I', name)), pg_temp.expected('d', '{2,3}'), 'DELETE of several rows of ' || to_json(name)) as test_6
from unnest(array[E'T ''%1$s'' \\ $$ \n "x"', '%s']) as name;
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'problems() has nothing against any of these names');

-- a watched table and its columns renamed to each of these names, beside many watches of other tables
create table public.plain (id integer primary key, org_id text, used integer, extra text);
create table public.parents (id text primary key, user_id text);
insert into public.parents values ('a', 'u');
select cache_invalidation.watch('public.plain', 'plain:{org_id}:*', columns => array['used']);
select cache_invalidation.watch('public.plain', 'user:{p.user_id}:list', join => 'public.parents p on p.id = row.org_id');
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
  $$values ('plain:{org_id}:*', array['used'], null), ('user:{p.user_id}:list', null, 'public.parents p on p.id = row.org_id')$$,
  'the declaration is as it was, the join included');
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
select is(
  (select array[r.target, r.columns::text, cache_invalidation.join_text(r.hops)]
    from cache_invalidation.rename_columns(jsonb_populate_record(null::cache_invalidation.watches, jsonb_build_object(
      'target', 'x:{a}:{b}:{o.a}:{p.a}:a', 'columns', array['b', 'a', 'a b'],
      'hops', to_jsonb(cache_invalidation.read_join('public.plain', 'public.parents o on o.a = row.a and row."b"=o."row.a" join public.parents p on p.b = o.a and row.a = p.a')))),
      '{".a": "b", ".b": "a:\"}", "o.a": "p.a", "p.a": "q", "p.b": "select", "a": "no", "o.row.a": "\\1"}') as r),
  array['x:{b}:{"a:""}"}:{o."p.a"}:{p.q}:a', '{"a:\"}",b,"a b"}',
    'public.parents o on o."p.a" = row.b and o."\1" = row."a:""}" join public.parents p on p."select" = o."p.a" and p.q = row.b'],
  'names in target, columns and join change all at once, each of its own table');

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
create table public.grandparents (id text, tenant text, user_id text, unique (id, tenant));
insert into public.grandparents values ('2', '1', 'u1');
select cache_invalidation.watch('public.moved', 'moved:{a}:{b}:{c}:{p.user_id}', columns => array['c', 'b', 'a'], join => 'public.grandparents p on p.id = row.b and p.tenant = row.a');
alter table public.moved rename column c to d;
alter table public.moved rename column b to c;
alter table public.moved rename column a to b;
select matches((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'public.moved or its columns were renamed', 'problems() before refresh()');
select cache_invalidation.refresh();
select results_eq($$select target, columns, join_clause from cache_invalidation.watches where rel = 'public.moved'::regclass$$,
  $$values ('moved:{b}:{c}:{d}:{p.user_id}', array['d', 'c', 'b'], 'public.grandparents p on p.id = row.c and p.tenant = row.b')$$, 'chained renames are followed in target, columns and join');
alter table public.moved rename column b to e;
alter table public.moved rename column d to b;
alter table public.moved rename column e to d;
select matches((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'public.moved or its columns were renamed', 'problems() when names have changed places');
select cache_invalidation.refresh();
select is(pg_temp.captured($$insert into public.moved values ('1', '2', '3')$$), array['i moved:1:2:3:u1'], 'columns that changed places are followed by number');
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
  '^23505 two watches of public.crossed have the same target now that a column is renamed \| First unwatch\(\) one of them: select', 'two watches that would become one');
select results_eq($$select target from cache_invalidation.watches where rel = 'public.crossed'::regclass order by id$$, $$values ('crossed:{b}'), ('crossed:{a}')$$, 'nothing has moved then');
select cache_invalidation.unwatch('public.crossed', 'crossed:{a}');
select is(pg_temp.answer('select cache_invalidation.refresh()'), 'ok', 'the hint settles it');
select results_eq($$select target from cache_invalidation.watches where rel = 'public.crossed'::regclass$$, $$values ('crossed:{a}')$$, 'one is left');
select cache_invalidation.unwatch('public.crossed');

-- a restored dump: the table has another oid, and its columns other numbers
update cache_invalidation.watches
  set declared_oid = 1, declared_columns = '{"b": 1, "c": 3, "d": 2}'
  where rel = 'public.moved'::regclass;
update cache_invalidation.versions as v
  set reads = array(
    select case c.alias when '' then row(c.alias, 1, case c.name when 'b' then 1 when 'c' then 3 else 2 end, c.name, c.type, c.row_version, c.meaning, c.is_key)::cache_invalidation.read_column else c end
    from unnest(v.reads) as c)
  where v.rel = 'public.moved'::regclass and v.retired is null;
select matches((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'public.moved or its columns were renamed, .* or restored', 'problems() after a restore');
select doesnt_match((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'another column is called that now', 'which takes no column for another');
select is(pg_temp.captured($$insert into public.moved values ('1', '2', '3')$$), array['i moved:* 42804'], 'and writes widen');
select cache_invalidation.refresh();
select results_eq($$select target, declared_columns from cache_invalidation.watches where rel = 'public.moved'::regclass$$,
  $$values ('moved:{d}:{c}:{b}:{p.user_id}', '{"d": 1, "c": 2, "b": 3}'::jsonb)$$, 'after a restore names count, and numbers are read anew');
select is(pg_temp.captured($$insert into public.moved values ('1', '2', '3')$$), array['i moved:1:2:3:u1'], 'after which targets are exact');
select is((select count(*) from cache_invalidation.problems() where watch_id is not null), 0::bigint, 'and there is no problem');

-- a column called like what stands for the version in the text of a capture function
create table public.marked (id integer, "values (<version>," text, "(version, change) values (<version>, " text);
select cache_invalidation.watch('public.marked', 'marked:{values (<version>,}:{(version, change) values (<version>, }');
select is(pg_temp.captured($$insert into public.marked values (1, 'a', 'b')$$), array['i marked:a:b'], 'columns called like the place of the version');

-- a joined table, its columns and its alias called anything
create table public.of_names (id integer primary key, parent text);
create function pg_temp.join_by(new_name text, place bigint) returns text[] language plpgsql as $$
declare
  answer text;
  captured text[];
begin
  execute format('create table public.%I (%1$I text primary key, %I text)', 'J ' || left(new_name, 60), 'v' || left(new_name, 60));
  execute format('alter table public.%I rename column %1$I to %I', 'J ' || left(new_name, 60), new_name);
  execute format('insert into public.%I values (%L, %L)', 'J ' || left(new_name, 60), place, 'value-' || place);
  answer := pg_temp.answer(format('select cache_invalidation.watch(''public.of_names'', %L, join => %L)', 'j:' || cache_invalidation.placeholder('A b', 'v' || left(new_name, 60)),
    format('public.%I as "A b" on row.parent = "A b" . %I', 'J ' || left(new_name, 60), new_name)));
  captured := pg_temp.captured(format('insert into public.of_names values (1, %L); delete from public.of_names', place))
    || pg_temp.captured(format('update public.%I set %I = ''w''', 'J ' || left(new_name, 60), 'v' || left(new_name, 60)));
  return answer || captured || cache_invalidation.unwatch('public.of_names')::text;
end
$$;
select is(pg_temp.join_by(n.name, n.place), array['ok', 'd j:value-' || n.place, 'u j:value-' || n.place, 'u j:w', '1'], 'a joined table and its columns can be called ' || to_json(n.name))
from names as n order by n.place;
create table public.aliased (id integer primary key, "row" text, r text, "row.r" text);
insert into public.aliased values (1, 'a', 'b', 'c');
create function pg_temp.join_as(alias text) returns text[] language plpgsql as $$
begin
  perform cache_invalidation.watch('public.of_names', 'alias:' || string_agg(cache_invalidation.placeholder(alias, c), ':'), join => format('public.aliased %I on %1$I.id = row.id', alias))
    from unnest(array['row', 'r', 'row.r']) as c;
  return pg_temp.captured('insert into public.of_names values (1, null); delete from public.of_names') || cache_invalidation.unwatch('public.of_names')::text;
end
$$;
select is(pg_temp.join_as(alias), array['d alias:a:b:c', '1'], 'the alias ' || alias)
from unnest(array['r', 'c', 'k', 'k1', 'x', 't', 'v', 'old', 'new', 'changes', 'aliased', 'Row', 'select', 'ü', repeat('x', 63)]) as alias;
select is((select count(*) from cache_invalidation.problems() where problem !~ 'event triggers'), 0::bigint, 'nothing is left of them');

select * from finish();
rollback;
