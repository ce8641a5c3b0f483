-- What goes along with something else: keys of joins, columns' operators, and rows without a DELETE.
\ir fencepost_preamble.psql

-- a foreign key that goes with the index it needs
create table public.parents (id integer, user_id text);
create unique index parents_key on public.parents (id);
create table public.children (id integer, parent_id integer references public.parents (id));
insert into public.parents values (1, 'u');
select cache_invalidation.watch('public.parents', 'user:{user_id}');
select cache_invalidation.watch('public.children', 'user:{p.user_id}', join => 'public.parents p on p.id = row.parent_id');
select is(pg_temp.captured('insert into public.children values (1, 1), (2, null)'), array['i user:u'], 'a child without a parent names nothing');
drop index public.parents_key cascade;
select is((select array_agg(problem) from cache_invalidation.problems()), null, 'DROP INDEX CASCADE: the functions follow');
select is(pg_temp.captured('insert into public.children values (3, 1), (4, 3)'), array['i user:u'], 'and joins are exact without the key');
select is(pg_temp.captured('insert into public.parents values (3, ''v'')'), array['i user:v', 'i user:v'], 'a parent that comes later names the target itself, for its own watch and for its child''s');
select is(pg_temp.captured('delete from public.parents'), array['d user:u', 'd user:u', 'd user:v', 'd user:v'], 'as does one that goes');
select is(pg_temp.captured('drop table public.parents'), array['- user:*'], 'DROP TABLE of a joined table');

-- a primary key that goes with the operators of its column's type
create type public.code;
create function public.code_in(cstring) returns public.code language internal immutable strict as 'int4in';
create function public.code_out(public.code) returns cstring language internal immutable strict as 'int4out';
create type public.code (input = public.code_in, output = public.code_out, like = integer);
create function public.code_lt(public.code, public.code) returns boolean language internal immutable strict as 'int4lt';
create function public.code_eq(public.code, public.code) returns boolean language internal immutable strict as 'int4eq';
create function public.code_gt(public.code, public.code) returns boolean language internal immutable strict as 'int4gt';
create function public.code_cmp(public.code, public.code) returns integer language internal immutable strict as 'btint4cmp';
create operator public.< (function = public.code_lt, leftarg = public.code, rightarg = public.code);
create operator public.= (function = public.code_eq, leftarg = public.code, rightarg = public.code);
create operator public.> (function = public.code_gt, leftarg = public.code, rightarg = public.code);
create operator class public.code_ops default for type public.code using btree as
  operator 1 public.<, operator 3 public.=, operator 5 public.>, function 1 public.code_cmp(public.code, public.code);
create table public.coded (id public.code primary key, org_id text, note text, used integer);
insert into public.coded values ('1', 'a', 'x', 1), ('2', 'a', 'y', 2);
select cache_invalidation.watch('public.coded', 'coded:{org_id}', columns => array['used']);
drop operator class public.code_ops using btree cascade;
update public.coded set id = '1';
select is(pg_temp.captured('update public.coded set used = 3 - used'), array['u coded:a'], 'DROP OPERATOR CLASS CASCADE takes a primary key: values that rows exchange are still seen');

-- rows that go with their table
create table public.parted (id integer, org_id text) partition by list (id);
create table public.parted_1 partition of public.parted for values in (1);
create table public.parted_2 partition of public.parted for values in (2) partition by list (id);
create table public.parted_2_2 partition of public.parted_2 for values in (2);
select cache_invalidation.watch('public.parted', 'parted:{org_id}');
select cache_invalidation.watch('public.parted', 'parted:{org_id}:list');
select cache_invalidation.watch('public.parted_2', 'second:{org_id}');
insert into public.parted values (1, 'a'), (2, 'b');
select is(pg_temp.captured('drop table public.parted_1'), array['- parted:*'], 'DROP TABLE of a partition: each type once');
select is(pg_temp.captured('drop table public.parted_2_2'), array['- parted:*', '- second:*'], 'of one further below: the types of all above');
select is(pg_temp.captured('drop table public.parted_2'), array['- parted:*', '- second:*'], 'of one that is watched itself');
select is((select array_agg(target order by target) from cache_invalidation.watches where rel = 'public.parted'::regclass), array['parted:{org_id}', 'parted:{org_id}:list'], 'the watches of the others stay');
create table public.parted_3 partition of public.parted for values in (3);
alter table cache_invalidation.changes rename to away;
select lives_ok('drop table public.parted_3', 'no DROP fails because nothing could be invalidated');
alter table cache_invalidation.away rename to changes;
select is(pg_temp.captured('create table public.unrelated (id integer primary key); drop table public.unrelated'), '{}', 'another table: nothing');
select is(pg_temp.captured('drop table public.parted'), array['- parted:*'], 'DROP TABLE of a watched table');
create schema apart;
create table apart.things (id integer, org_id text);
create table apart.wholes (id integer, org_id text) partition by list (id);
create table public.wholes_1 partition of apart.wholes for values in (1);
select cache_invalidation.watch('apart.things', 'thing:{org_id}');
select cache_invalidation.watch('apart.wholes', 'whole:{org_id}');
select is(pg_temp.captured('alter table apart.things drop column id'), array['- thing:*'], 'a column: the types of its table');
select is(pg_temp.captured('drop schema apart cascade'), array['- thing:*', '- whole:*'], 'DROP SCHEMA CASCADE');
create schema part;
create table public.wholes (id integer, org_id text) partition by list (id);
create table part.wholes_1 partition of public.wholes for values in (1);
select cache_invalidation.watch('public.wholes', 'whole:{org_id}');
select is(pg_temp.captured('drop schema part cascade'), array['- whole:*'], 'DROP SCHEMA CASCADE with a partition of a table elsewhere');

-- a dump of the application's schema that is restored in its place, in one transaction
create table public.restored (id integer, org_id text);
create table public.restored_too (id integer primary key, user_id text);
select cache_invalidation.watch('public.restored', 'restored:{org_id}');
select cache_invalidation.watch('public.restored', 'too:{t.user_id}', join => 'public.restored_too t on t.id = row.id');
select is(pg_temp.answer($$drop table public.restored; drop table public.restored_too;
  create table public.restored (id integer, org_id text); create table public.restored_too (id integer primary key, user_id text);
  create trigger fencepost_public_restored_too after insert or delete or update on public.restored_too for each row execute function cache_invalidation.capture_public_restored_too();
  create trigger fencepost_public_restored after insert or delete or update on public.restored for each row execute function cache_invalidation.capture_public_restored();
  alter table public.restored enable always trigger fencepost_public_restored$$), 'ok', 'the triggers of a dropped table can be made again');
select matches(pg_temp.captured($$insert into public.restored values (1, 'a')$$)::text, 'restored:\*', 'its writes widen');
select matches(pg_temp.problems()::text, 'error: public.restored is not watched for ''restored:\{org_id\}''', 'and a problem says so');
select cache_invalidation.refresh();
select ok(array['i restored:a'] <@ pg_temp.captured($$insert into public.restored values (1, 'a')$$), 'refresh() watches it again');

select * from finish();
rollback;
