-- An update names the keys of the new row and of the old one: several watches of a table, types and values.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

create domain public.short_text as text;
create table public.lines (
  id integer primary key, name text, model varchar(300), number integer, ratio numeric, day date, part uuid, alias public.short_text,
  key_1 text default 'one', present text default 'two', used integer default 0
);
select cache_invalidation.watch('public.lines', target) from unnest(array[
  'a:{name}', 'b:{name}:{model}:*', 'c:{number}:{name}', 'd:{ratio}:{day}:{part}', 'e:{alias}', 'f:{key_1}:{present}', 'g:{name}:x:{name}'
]) as target;
insert into public.lines (id, name, model, number, ratio, day, part, alias)
values (1, 'n', 'm', 7, 1.50, '2026-11-01', '00000000-0000-4000-8000-00000000000A', 's');

create function pg_temp.captured(statement text, type text default '[a-g]') returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  execute statement;
  return array(
    select o.op::text || ' ' || o.target || coalesce(' ' || o.error, '') from cache_invalidation.outbox as o
    where o.target ~ ('^' || type || ':') order by o.target collate "C");
end
$$;

select is(pg_temp.captured('update lines set used = 1'), array[
  'u a:n', 'u b:n:m:*', 'u c:7:n', 'u d:1.5:2026-11-01:00000000-0000-4000-8000-00000000000a', 'u e:s', 'u f:one:two', 'u g:n:x:n'
], 'one row: columns of several types, and columns with the names of the function''s variables');
select results_eq('select cardinality(c), c[2:10] = c[11:19] from cache_invalidation.changes cross join string_to_array(change, E''\x01'') as c', $$values (19, true)$$, 'in one change of all their columns');
select is(pg_temp.captured('update lines set ratio = 1.500', 'd'),
  array['u d:1.5:2026-11-01:00000000-0000-4000-8000-00000000000a'], 'one row: an equal key that is written otherwise');
select is(pg_temp.captured('update lines set used = 1 where false'), '{}', 'no row');
select is(pg_temp.captured($$update lines set name = 'o'$$, '[ab]'), array['u a:n', 'u a:o', 'u b:n:m:*', 'u b:o:m:*'], 'a moved row');
select results_eq('select cardinality(c), c[2:10] = c[11:19] from cache_invalidation.changes cross join string_to_array(change, E''\x01'') as c', $$values (19, false)$$, 'in one change of both keys');
select is(pg_temp.captured('update lines set model = null', '[ab]'), array['u a:o', 'u b:o:*', 'u b:o:m:*'], 'to NULL');
select is(pg_temp.captured('update lines set used = 2', '[ab]'), array['u a:o', 'u b:o:*'], 'one row with a NULL in its key');
select is(pg_temp.captured($$update lines set model = ''$$, 'b'), array['u b:o:*', 'u b:o::*'], 'from NULL to the empty text');

-- special bytes, long values, and what a regular expression might stumble over
create table public.hostile (id integer primary key, value text);
insert into public.hostile values (1, 'a:b'), (2, '*'), (3, 'ü'), (4, E'line\nbreak'), (5, ''''), (6, '('), (7, repeat('x', 201)), (8, repeat('ä', 101)),
  (9, '~'), (10, '%2A'), (11, E'\\'), (12, '$1'), (13, repeat('x', 200)), (14, 'שלום'), (15, ' '),
  -- what stands between the elements of a change, and the quotes around them
  (16, E'\x01'), (17, E'''\x01'''), (18, E'x''\x01NULL'), (19, E'\\\x01'''), (20, 'NULL'), (21, 'E''x''');
update public.lines set model = 'm';
select is(
  pg_temp.captured(format('update lines set name = %L where id = 1; update lines set used = 3', value), '[ag]')
    @> array['u a:' || cache_invalidation.segment(value), 'u g:' || cache_invalidation.segment(value) || ':x:' || cache_invalidation.segment(value)],
  true, format('the value %s', id))
from public.hostile order by id;

-- several rows
insert into public.lines (id, name) values (2, 'p'), (3, 'p');
select is(pg_temp.captured($$update lines set name = 'q' where id > 1$$, 'a'), array['u a:p', 'u a:q'], 'several rows that move');
select is(pg_temp.captured($$update lines set used = 4 where id > 1$$, 'a'), array['u a:q'], 'several rows with one target');

-- A column that has another type than when the function was written is never rendered in that type's own way, also where the
-- session has planned the function before.
drop event trigger fencepost_ddl;
drop event trigger fencepost_drop;
drop event trigger fencepost_rewrite;
update public.lines set name = '5';
alter table public.lines alter column name type double precision using name::double precision;
select is(pg_temp.captured('update lines set used = 5 where id = 1', 'a'), array['u a:* 42804'], 'a type without rendering widens');
select is(pg_temp.captured('update lines set used = 5 where id = 1', 'd'), array['u d:* 42804'], 'and, in this session, the other watches of the table');
select is(pg_temp.captured('insert into lines (id, name, number) values (4, 6, 8)', 'a'), array['i a:* 42804'], 'INSERT');
select is(pg_temp.captured('delete from lines where id = 4', 'a'), array['d a:* 42804'], 'DELETE');
alter table public.lines alter column name type integer using name::integer;
select is(pg_temp.captured('update lines set used = 6 where id = 1', 'a'), array['u a:* 42804'], 'so does another type with a rendering, until refresh()');
select cache_invalidation.refresh();
select is(pg_temp.captured('update lines set used = 7 where id = 1', '[ad]'), array['u a:5', 'u d:1.5:2026-11-01:00000000-0000-4000-8000-00000000000a'], 'which has it rendered');
alter table public.lines alter column name type double precision using name::double precision;
select cache_invalidation.refresh();
select is(pg_temp.captured('update lines set used = 8 where id = 1', '[ad]'), array['u a:* 42804', 'u d:1.5:2026-11-01:00000000-0000-4000-8000-00000000000a'], 'after refresh() a type without rendering widens its own watches alone');
select ok((select count(*) = 4 and bool_and(problem ~ 'its type is double precision' and severity = 'warning') from cache_invalidation.problems() where watch_id is not null), 'and problems() says so');

select * from finish();
rollback;
