-- Every kind of statement that changes rows leaves exactly its targets in the outbox, each once, and one change for each row.
\ir fencepost_preamble.psql

create table public.quota_lines (
  id integer primary key, org_id text, provider text, model text, used integer not null default 0, note text,
  doubled integer generated always as (used * 2) stored, label text generated always as (provider || '/' || model) stored
);
select cache_invalidation.watch('public.quota_lines', 'line:{org_id}:*');

select is(pg_temp.captured($$insert into quota_lines values (1, 'a', 'p', 'm')$$), array['i line:a:*'], 'INSERT of one row');
select is(pg_temp.captured($$insert into quota_lines values (2, 'a', 'p', 'n'), (3, 'a', 'p', 'o')$$), array['i line:a:*'], 'INSERT of two rows with one target');
select is(pg_temp.captured($$insert into quota_lines values (4, 'b', 'p', 'n'), (5, 'c', 'p', 'o')$$), array['i line:b:*', 'i line:c:*'], 'INSERT of two rows with two targets');
select is(pg_temp.captured($$insert into quota_lines select 6, 'd', 'p', 'm' where false$$), '{}', 'INSERT of no row');
-- What the trigger stores: every key column as a literal, of an update those of the new row and of the old one.
create function pg_temp.stored(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  execute statement;
  return array(select replace(c.change, E'\x01', ' ') from cache_invalidation.changes as c order by c.change);
end
$$;
select is(pg_temp.stored($$insert into quota_lines values (7, 'a', 'p', 'm'), (8, null, 'p', 'm'), (9, '', 'p', 'm')$$), array['i ''''', 'i ''a''', 'i NULL'], 'stored: INSERT');
select is(pg_temp.stored($$update quota_lines set used = 1 where id in (7, 8)$$), array['u ''a'' ''a''', 'u NULL NULL'], 'stored: UPDATE that keeps the key');
select is(pg_temp.stored($$update quota_lines set org_id = case id when 7 then null else 'b' end where id in (7, 8)$$), array['u ''b'' NULL', 'u NULL ''a'''], 'stored: a NULL in the old key is one');
select is(pg_temp.stored($$delete from quota_lines where id in (7, 8, 9)$$), array['d ''''', 'd ''b''', 'd NULL'], 'stored: DELETE');
select is(pg_temp.captured($$update quota_lines set used = 1 where id = 1$$), array['u line:a:*'], 'UPDATE that keeps the key');
select is(pg_temp.captured($$update quota_lines set org_id = 'z' where id = 1$$), array['u line:a:*', 'u line:z:*'], 'UPDATE that moves a row names the old and the new target');
select is(pg_temp.captured($$update quota_lines set org_id = 'y' where id in (2, 4)$$), array['u line:a:*', 'u line:b:*', 'u line:y:*'], 'UPDATE that moves several rows');
select is(pg_temp.captured($$update quota_lines set used = used + 1$$), array['u line:a:*', 'u line:c:*', 'u line:y:*', 'u line:z:*'], 'UPDATE of all rows');
select is(pg_temp.captured($$update quota_lines set used = 1 where false$$), '{}', 'UPDATE of no row');
select is(pg_temp.captured($$delete from quota_lines where id = 1$$), array['d line:z:*'], 'DELETE of one row');
select is(pg_temp.captured($$delete from quota_lines where id in (2, 3)$$), array['d line:a:*', 'd line:y:*'], 'DELETE of several rows');
select is(pg_temp.captured($$delete from quota_lines where false$$), '{}', 'DELETE of no row');
select is(pg_temp.captured($$truncate quota_lines$$), array['t line:*'], 'TRUNCATE is the type''s wildcard');

-- NULL and empty
select is(pg_temp.captured($$insert into quota_lines values (10, null, 'p', 'm')$$), array['i line:*'], 'a NULL segment widens to the group before it');
select is(pg_temp.captured($$insert into quota_lines values (11, '', 'p', 'm')$$), array['i line::*'], 'an empty segment stays a segment');
select is(pg_temp.captured($$update quota_lines set org_id = 'n' where id = 10$$), array['u line:*', 'u line:n:*'], 'from NULL to a value');
select is(pg_temp.captured($$update quota_lines set org_id = null where id = 10$$), array['u line:*', 'u line:n:*'], 'from a value to NULL');

-- ON CONFLICT, MERGE, writable CTEs
select is(pg_temp.captured($$insert into quota_lines values (11, 'q', 'p', 'm') on conflict (id) do nothing$$), '{}', 'ON CONFLICT DO NOTHING that does nothing');
select is(pg_temp.captured($$insert into quota_lines values (11, 'q', 'p', 'm') on conflict (id) do update set org_id = excluded.org_id$$), array['u line::*', 'u line:q:*'], 'ON CONFLICT DO UPDATE that updates');
select is(pg_temp.captured($$insert into quota_lines values (11, 'x', 'p', 'm'), (12, 'r', 'p', 'm') on conflict (id) do update set used = 5$$), array['u line:q:*', 'i line:r:*'], 'ON CONFLICT DO UPDATE that updates one row and inserts another');
select is(pg_temp.captured($$
  merge into quota_lines as q using (values (11, 'q'), (12, 'r'), (13, 's')) as v(id, org) on q.id = v.id
  when matched and v.id = 11 then delete when matched then update set org_id = 'r2'
  when not matched then insert values (v.id, v.org, 'p', 'm')$$),
  array['d line:q:*', 'u line:r2:*', 'u line:r:*', 'i line:s:*'], 'MERGE that deletes, updates and inserts');
select is(pg_temp.captured($$
  with gone as (delete from quota_lines where id = 12 returning *), new as (insert into quota_lines values (14, 't', 'p', 'm') returning *)
  update quota_lines set used = 9 where id = 13$$),
  array['d line:r2:*', 'u line:s:*', 'i line:t:*'], 'writable CTEs');

-- functions, DO blocks, views, rules of the session
create function pg_temp.spend(line integer) returns void language sql as $$ update quota_lines set used = used + 1 where id = line $$;
select is(pg_temp.captured($$select pg_temp.spend(13)$$), array['u line:s:*'], 'a function');
select is(pg_temp.captured($$do $do$ begin for i in 1..3 loop update quota_lines set used = i where id = 13; end loop; end $do$ $$), array['u line:s:*'], 'a DO block: a target is named once');
select is((select count(*) from cache_invalidation.changes), 3::bigint, 'and each change of the row is one of changes');
select is(pg_temp.captured($$insert into quota_lines values (15, 's', 'p', 'm'); update quota_lines set used = 2 where id = 15; delete from quota_lines where id = 15$$), array['d line:s:*'], 'several operations of a transaction name a target once');
create view public.lines_of_s as select id, org_id, used from public.quota_lines where org_id = 's';
select is(pg_temp.captured($$update lines_of_s set used = 77$$), array['u line:s:*'], 'an update through a view');
create view public.lines_instead as select id, org_id from public.quota_lines;
create function pg_temp.instead() returns trigger language plpgsql as $$ begin update quota_lines set used = 3 where id = old.id; return new; end $$;
create trigger instead instead of update on public.lines_instead for each row execute function pg_temp.instead();
select is(pg_temp.captured($$update lines_instead set org_id = 'ignored' where id = 13$$), array['u line:s:*'], 'an INSTEAD OF trigger');
create function pg_temp.correct() returns trigger language plpgsql as $$ begin new.org_id := 'before-' || new.id; return new; end $$;
create trigger correct before insert on public.quota_lines for each row execute function pg_temp.correct();
select is(pg_temp.captured($$insert into quota_lines values (20, 'asked', 'p', 'm')$$), array['i line:before-20:*'], 'what a BEFORE trigger makes of the row counts');
drop trigger correct on public.quota_lines;

-- savepoints
select is(pg_temp.captured($$do $do$ begin
  update quota_lines set used = 1 where id = 13;
  begin update quota_lines set used = 1 where id = 14; raise exception 'x'; exception when others then null; end; end $do$ $$),
  array['u line:s:*'], 'what is rolled back to a savepoint leaves no row');

-- foreign keys and CASCADE
create table public.line_details (id integer primary key, line_id integer references public.quota_lines on delete cascade on update cascade, org_id text);
select cache_invalidation.watch('public.line_details', 'detail:{org_id}');
select is(pg_temp.captured($$insert into line_details values (1, 13, 'd1'), (2, 13, 'd2'), (3, 14, 'd3')$$), array['i detail:d1', 'i detail:d2', 'i detail:d3'], 'details');
select is(pg_temp.captured($$update quota_lines set id = 113 where id = 13$$), array['u detail:d1', 'u detail:d2', 'u line:s:*'], 'ON UPDATE CASCADE');
select is(pg_temp.captured($$delete from quota_lines where id = 113$$), array['d detail:d1', 'd detail:d2', 'd line:s:*'], 'ON DELETE CASCADE');
select is(pg_temp.captured($$truncate quota_lines cascade$$), array['t detail:*', 't line:*'], 'TRUNCATE CASCADE');
create table public.settings_of (id integer primary key, line_id integer references public.quota_lines on delete set null deferrable initially deferred, org_id text);
select cache_invalidation.watch('public.settings_of', 'setting:{org_id}:{line_id}');
insert into quota_lines values (30, 'k', 'p', 'm');
insert into settings_of values (1, 30, 'k');
select is(pg_temp.captured($$delete from quota_lines where id = 30$$), array['d line:k:*', 'u setting:k:*', 'u setting:k:30'], 'ON DELETE SET NULL: the old target and the widened new one');
select is(pg_temp.captured($$insert into settings_of values (2, null, 'k')$$), array['i setting:k:*'], 'a row before its parent');
select is(pg_temp.captured($$set constraints all immediate$$), '{}', 'checking deferred constraints changes nothing');

-- generated columns
select cache_invalidation.watch('public.quota_lines', 'label:{label}');
select cache_invalidation.watch('public.quota_lines', 'doubled:{doubled}');
select is(pg_temp.captured($$insert into quota_lines values (40, 'g', 'p', 'm', 21)$$), array['i doubled:42', 'i label:p%2Fm', 'i line:g:*'], 'stored generated columns; one table with three watches');
select is((select count(*) from cache_invalidation.changes), 1::bigint, 'which write one change for a row');
select is(pg_temp.captured($$update quota_lines set note = 'z' where id = 40$$), array['u doubled:42', 'u label:p%2Fm', 'u line:g:*'], 'three watches: UPDATE that keeps the keys');
select is((select count(*) from cache_invalidation.changes), 1::bigint, 'in one change too');
select is(pg_temp.captured($$update quota_lines set used = 22 where id = 40$$), array['u doubled:42', 'u doubled:44', 'u label:p%2Fm', 'u line:g:*'], 'a generated key that moves');
select is((select count(*) from cache_invalidation.changes), 1::bigint, 'in one change');
select cache_invalidation.watch('public.quota_lines', 'label:{label}', columns => array['provider']);
select is(pg_temp.captured($$update quota_lines set note = 'y' where id = 40$$), array['u doubled:44', 'u line:g:*'], 'three watches, one of them with columns: not fired');
select is(pg_temp.captured($$update quota_lines set provider = 'q' where id = 40$$), array['u doubled:44', 'u label:p%2Fm', 'u label:q%2Fm', 'u line:g:*'], 'and fired');
select is((select count(*) from cache_invalidation.changes), 1::bigint, 'in one change as well');
select cache_invalidation.watch('public.quota_lines', 'doubled:{doubled}', columns => array['used']), cache_invalidation.watch('public.quota_lines', 'line:{org_id}:*', columns => array['model']);
select is(pg_temp.captured($$update quota_lines set note = 'x' where id = 40$$), '{}', 'three watches with columns: nothing that counts changed');
select is((select count(*) from cache_invalidation.changes), 0::bigint, 'so there is no change');
select is(pg_temp.captured($$update quota_lines set used = 21 where id = 40$$), array['u doubled:42', 'u doubled:44'], 'one of three fires');
select is(pg_temp.captured($$update quota_lines set org_id = 'gg' where id = 40$$), array['u line:g:*', 'u line:gg:*'], 'a key column of one is none of another');
select is(pg_temp.captured($$update quota_lines set model = 'n', org_id = 'g' where id = 40$$), array['u label:q%2Fm', 'u label:q%2Fn', 'u line:g:*', 'u line:gg:*'], 'a column of one that is a key of another');
select cache_invalidation.unwatch('public.quota_lines', 'label:{label}');
select cache_invalidation.unwatch('public.quota_lines', 'doubled:{doubled}');

-- columns narrows updates
select cache_invalidation.watch('public.quota_lines', 'line:{org_id}:*', columns => array['used']);
select is(pg_temp.captured($$update quota_lines set note = 'x' where id = 40$$), '{}', 'columns: another column changed');
select is(pg_temp.captured($$update quota_lines set used = used where id = 40$$), '{}', 'columns: nothing changed');
select is(pg_temp.captured($$update quota_lines set used = 1 where id = 40$$), array['u line:g:*'], 'columns: the column changed');
select is(pg_temp.captured($$update quota_lines set org_id = 'h' where id = 40$$), array['u line:g:*', 'u line:h:*'], 'columns: a key column always counts');
select is(pg_temp.captured($$insert into quota_lines values (41, 'h', 'p', 'm', 5), (42, 'i', 'p', 'm', 6)$$), array['i line:h:*', 'i line:i:*'], 'columns: inserts always count');
select is(pg_temp.captured($$update quota_lines set note = 'y', used = case id when 41 then 50 else used end$$), array['u line:h:*'], 'columns: several rows, one changed');
select is(pg_temp.captured($$update quota_lines set used = case id when 41 then 1 when 40 then 50 else used end where org_id = 'h'$$), array['u line:h:*'], 'columns: two rows that swap their values');
select is(pg_temp.captured($$delete from quota_lines where id = 42$$), array['d line:i:*'], 'columns: deletes always count');
select is(pg_temp.captured($$truncate quota_lines cascade$$), array['t detail:*', 't line:*', 't setting:*'], 'columns: truncate always counts');
select cache_invalidation.watch('public.quota_lines', 'line:{org_id}:*');

create table public.no_key (org_id text, amount numeric, ratio double precision, doc json);
select cache_invalidation.watch('public.no_key', 'sum:{org_id}', columns => array['amount', 'ratio', 'doc']);
insert into no_key values ('a', 1.0, 0.1, '{}'), ('a', 2, 0.1, '{}'), ('b', 3, 0.1, '{}');
select is(pg_temp.captured($$update no_key set amount = 1.00 where amount = 1$$), array['u sum:a'], 'columns: 1.0 and 1.00 are equal but not the same');
select is(pg_temp.captured($$update no_key set amount = case when amount = 1 then 2 when amount = 2 then 2.0 else amount end$$), array['u sum:a'], 'columns without a primary key: values that rows exchange are changes');
select is(pg_temp.captured($$update no_key set amount = amount + (org_id = 'b')::integer$$), array['u sum:b'], 'columns without a primary key: each row is compared with itself');
select is(pg_temp.captured($$update no_key set amount = amount$$), '{}', 'columns without a primary key: nothing changed');
set local extra_float_digits = -10;
select is(pg_temp.captured($$update no_key set ratio = ratio + 1e-14$$), array['u sum:a', 'u sum:b'], 'columns: the session''s float digits do not matter');
reset extra_float_digits;
select is(pg_temp.captured($$update no_key set doc = '{ }' where org_id = 'b'$$), array['u sum:b'], 'columns: a type without equality');
select is(pg_temp.captured($$update no_key set doc = '{ }' where org_id = 'b'$$), '{}', 'columns: a type without equality, and no change');
select is(pg_temp.captured($$update no_key set doc = null where org_id = 'b'$$), array['u sum:b'], 'columns: to NULL');
select is(pg_temp.captured($$update no_key set doc = null where org_id = 'b'$$), '{}', 'columns: NULL is no change of NULL');
select is(pg_temp.captured($$update no_key set doc = '[]' where org_id = 'b'$$), array['u sum:b'], 'columns: from NULL');
create collation public.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create type public.pair as (a text collate public.any_case, b json);
create table public.coarse (id integer primary key, org_id text, name text collate public.any_case, names text[] collate public.any_case, spot point, both_of public.pair, many_docs json[], ratio double precision);
select cache_invalidation.watch('public.coarse', 'coarse:{org_id}', columns => array['name', 'names', 'spot', 'both_of', 'many_docs', 'ratio']);
insert into coarse values (1, 'a', 'ann', '{ann}', '(0,0)', row('ann', '{}'), array['{}'::json], 0);
select is(pg_temp.captured($$update coarse set name = 'ANN'$$), array['u coarse:a'], 'columns: texts that a collation calls equal are a change');
select is(pg_temp.captured($$update coarse set name = 'ANN', spot = '(0,0)'$$), '{}', 'columns: and none');
select is(pg_temp.captured($$update coarse set names = '{ANN}'$$), array['u coarse:a'], 'columns: within an array');
select is(pg_temp.captured($$update coarse set both_of = row('ANN', '{}')$$), array['u coarse:a'], 'columns: within a composite type');
select is(pg_temp.captured($$update coarse set both_of = row('ANN', '{ }')$$), array['u coarse:a'], 'columns: json within a composite type');
select is(pg_temp.captured($$update coarse set many_docs = array['{ }'::json]$$), array['u coarse:a'], 'columns: an array of json');
select is(pg_temp.captured($$update coarse set spot = '(0,1e-9)'$$), array['u coarse:a'], 'columns: points that their own equality calls the same');
select is(pg_temp.captured($$update coarse set ratio = '-0'$$), array['u coarse:a'], 'columns: 0 and -0');
select is(pg_temp.captured($$update coarse set id = 2$$), '{}', 'columns: another column of such a table');

-- collapse
select is(pg_temp.captured($$insert into quota_lines select i, 'org-' || i, 'p', 'm' from generate_series(1, 1000) as i$$),
  array(select 'i line:org-' || i || ':*' from generate_series(1, 1000) as i order by ('line:org-' || i || ':*') collate "C"), 'a statement with 1 000 targets names each');
select is(pg_temp.captured($$insert into quota_lines select i, 'org-' || i, 'p', 'm' from generate_series(2001, 3001) as i$$), array['i line:*'], 'a statement with 1 001 targets becomes one row');
select is(pg_temp.captured($$update quota_lines set org_id = 'new-' || id where id <= 501$$), array['u line:*'], 'old and new targets count together');
select is(pg_temp.captured($$update quota_lines set org_id = 'one'$$), array['u line:*'], 'UPDATE of many');
select is(pg_temp.captured($$update quota_lines set used = 4$$), array['u line:one:*'], 'many rows with one target');
select is(pg_temp.captured($$delete from quota_lines$$), array['d line:one:*'], 'DELETE of many');

-- the limit is the transaction's, of each watch by itself
select is(pg_temp.captured($$insert into quota_lines select i, 'first-' || i, 'p', 'm' from generate_series(1, 600) as i; insert into quota_lines select i, 'second-' || i, 'p', 'm' from generate_series(1001, 1401) as i$$), array['i line:*'], 'two statements with 1 001 targets in all become the wildcard');
select is(pg_temp.captured($$delete from quota_lines where id <= 600; delete from quota_lines where id <= 1400$$), array(select d.line from (select 'd line:first-' || i || ':*' from generate_series(1, 600) as i union all select 'd line:second-' || i || ':*' from generate_series(1001, 1400) as i) as d(line) order by d.line collate "C"), 'two statements with 1 000 do not');
select cache_invalidation.watch('public.quota_lines', 'model:{provider}:{model}');
select is(pg_temp.captured($$insert into quota_lines select i, 'org-' || i, 'p' || i % 2, 'm' from generate_series(1, 1001) as i$$), array['i line:*', 'i model:p0:m', 'i model:p1:m'], 'one watch of two has too many');
select cache_invalidation.unwatch('public.quota_lines', 'model:{provider}:{model}');
select is(pg_temp.captured($$do $do$ begin
  update quota_lines set used = 1 where id = 1;
  begin update quota_lines set used = 1; raise exception 'x'; exception when others then null; end; end $do$ $$),
  array['u line:org-1:*'], 'what is rolled back does not count');

-- session_replication_role
set local session_replication_role = replica;
select is(pg_temp.captured($$insert into quota_lines values (5000, 'replica', 'p', 'm')$$), array['i line:replica:*'], 'session_replication_role = replica changes nothing');
reset session_replication_role;

-- a constant target
create table public.flags (name text, is_on boolean);
select cache_invalidation.watch('public.flags', 'flags:all');
select is(pg_temp.captured($$insert into flags values ('a', true), ('b', false)$$), array['i flags:all'], 'a target without placeholders');
select is(pg_temp.captured($$update flags set is_on = not is_on$$), array['u flags:all'], 'a target without placeholders: UPDATE of several rows');
select is(pg_temp.captured($$update flags set is_on = true where name = 'c'$$), '{}', 'a target without placeholders: no row, no target');
select is(pg_temp.captured($$delete from flags where name = 'a'$$), array['d flags:all'], 'a target without placeholders: DELETE');

-- columns with the names of the function's own variables
create table public.named_badly (targets text, moved text, failure text, "row" text, "old" text, "new" text, tg_op text, "Mixed Case" text);
select cache_invalidation.watch('public.named_badly', 'bad:{targets}:{moved}:{failure}:{row}:{old}:{new}:{tg_op}:{Mixed Case}');
select is(pg_temp.captured($$insert into named_badly values ('1', '2', '3', '4', '5', '6', '7', '8')$$), array['i bad:1:2:3:4:5:6:7:8'], 'columns named like the function''s variables');
select is(pg_temp.captured($$update named_badly set "new" = 'x'$$), array['u bad:1:2:3:4:5:6:7:8', 'u bad:1:2:3:4:5:x:7:8'], 'columns named like the function''s variables: UPDATE');

-- no error anywhere
select is((select count(*) from cache_invalidation.outbox where error is not null), 0::bigint, 'no target was widened by an error');
select is((select count(*) from cache_invalidation.problems()), 0::bigint, 'and there is no problem');
select * from finish();
rollback;
