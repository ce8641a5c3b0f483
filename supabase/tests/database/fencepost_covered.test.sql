-- Where a parent is watched for the same target, a child without its parent adds nothing, because the parent's deletion has named the
-- target. But only where that is the one way to lose a parent.
begin;
create extension if not exists pgtap with schema extensions;
create extension if not exists citext with schema extensions;
set local search_path = public, extensions;
select no_plan();

-- Runs a statement and gives what it left in the outbox: operation and target, sorted.
create function pg_temp.captured(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.outbox;
  execute statement;
  return array(select o.op::text || ' ' || o.target || coalesce(' ' || o.error, '') from cache_invalidation.outbox as o order by o.target, o.op);
end
$$;

-- A foreign key over citext: its equality is not the join's, which reads text.
create table public.codes (code extensions.citext primary key, user_id text);
create table public.coded (id integer primary key, code extensions.citext references public.codes on delete cascade, x integer);
select cache_invalidation.watch('public.codes', 'code:{user_id}');
select cache_invalidation.watch('public.coded', 'code:{o.user_id}', join => 'public.codes o on o.code = row.code');
insert into codes values ('abc', 'u1');
select is(pg_temp.captured($$insert into coded values (1, 'ABC', 1)$$), array['i code:*'], 'citext: a parent that the join does not find widens');
select is(pg_temp.captured($$update coded set x = 2$$), array['u code:*'], 'citext: UPDATE');
select is(pg_temp.captured($$delete from coded$$), array['d code:*'], 'citext: DELETE');

-- The child's own invalidation would be sooner than the parent's.
create table public.slow_parents (id integer primary key, user_id text);
create table public.slow_children (id integer primary key, parent_id integer references public.slow_parents on delete cascade);
select cache_invalidation.watch('public.slow_parents', 'slow:{user_id}', min_interval => '1 hour');
select cache_invalidation.watch('public.slow_children', 'slow:{o.user_id}', join => 'public.slow_parents o on o.id = row.parent_id');
insert into slow_parents values (1, 'u'), (2, 'u'), (3, 'u');
insert into slow_children values (1, 1), (2, 2), (3, 3);
select is(pg_temp.captured($$delete from slow_parents where id = 1$$), array['d slow:*', 'd slow:u'], 'the parent has a min_interval and the child has none');
select cache_invalidation.watch('public.slow_children', 'slow:{o.user_id}', min_interval => '1 hour', join => 'public.slow_parents o on o.id = row.parent_id');
select is(pg_temp.captured($$delete from slow_parents where id = 2$$), array['d slow:u'], 'the child''s is as long');
select cache_invalidation.watch('public.slow_parents', 'slow:{user_id}', min_interval => '2 hours');
select is(pg_temp.captured($$delete from slow_parents where id = 3$$), array['d slow:*', 'd slow:u'], 'the parent''s has become longer');

-- The parent's watch does not count a change of the key that the child loses.
create table public.keyed (id integer primary key, user_id text, status text);
create table public.keyed_items (id integer primary key, parent_id integer references public.keyed on update set null);
select cache_invalidation.watch('public.keyed', 'keyed:{user_id}', columns => '{status}');
select cache_invalidation.watch('public.keyed_items', 'keyed:{o.user_id}', join => 'public.keyed o on o.id = row.parent_id');
insert into keyed values (1, 'u', 'a'), (3, 'v', 'a');
insert into keyed_items values (10, 1), (11, 3);
select is(pg_temp.captured($$update keyed set id = 2 where id = 1$$), array['u keyed:*'], 'columns: the parent''s new key is none of them');
select is(pg_temp.captured($$with c as (update keyed_items set parent_id = null where id = 11) update keyed set id = 4 where id = 3$$), array['u keyed:*'],
  'columns: child and parent in one statement');
select cache_invalidation.watch('public.keyed', 'keyed:{user_id}', columns => '{status,id}');
update keyed_items set parent_id = 2 where id = 10;
select is(pg_temp.captured($$update keyed set id = 5 where id = 2$$), array['u keyed:u'], 'columns: the key is one of them');

-- The foreign key is to the whole of a partitioned table, and one part of it is joined.
create table public.whole (id integer primary key, user_id text) partition by range (id);
create table public.part partition of public.whole for values from (0) to (1000);
create table public.of_whole (id integer primary key, whole_id integer references public.whole);
select cache_invalidation.watch('public.part', 'part:{user_id}');
select cache_invalidation.watch('public.of_whole', 'part:{o.user_id}', join => 'public.part o on o.id = row.whole_id');
select is(pg_temp.captured($$insert into of_whole values (1, null)$$), array['i part:*'], 'a part of a partitioned parent covers nothing');

-- Inheritance children have no foreign key.
create table public.lists (id integer primary key, user_id text);
create table public.entries (id integer primary key, list_id integer references public.lists on delete cascade, n integer);
select cache_invalidation.watch('public.lists', 'list:{user_id}');
select cache_invalidation.watch('public.entries', 'list:{o.user_id}', join => 'public.lists o on o.id = row.list_id');
insert into lists values (1, 'u');
select is(pg_temp.captured($$insert into entries values (1, null)$$), '{}', 'without children a missing parent adds nothing');
create table public.old_entries () inherits (public.entries);
insert into old_entries values (2, 99);
select is(pg_temp.captured($$update entries set n = 1 where id = 2$$), array['u list:*'], 'a child''s row without its parent widens');

-- A session that enforces no foreign keys.
create table public.orders (id integer primary key, user_id text);
create table public.items (id integer primary key, order_id integer references public.orders on delete cascade, n integer);
select cache_invalidation.watch('public.orders', 'user:{user_id}:orders');
select cache_invalidation.watch('public.items', 'user:{o.user_id}:orders', join => 'public.orders o on o.id=row.order_id');
insert into orders values (1, 'u1');
set local session_replication_role = replica;
select is(pg_temp.captured($$insert into items values (1, 7)$$), array['i user:*'], 'replica: a row before its parent widens');
select is(pg_temp.captured($$insert into items values (2, 7), (3, 1), (4, 8)$$), array['i user:*', 'i user:u1:orders'], 'replica: several rows');
select is(pg_temp.captured($$update items set n = 1 where id = 1$$), array['u user:*'], 'replica: UPDATE');
delete from items;
set local session_replication_role = origin;
select is(pg_temp.captured($$insert into items values (1, 1), (2, null), (3, 1)$$), array['i user:u1:orders'], 'and with foreign keys it adds nothing');
select is(pg_temp.captured($$delete from orders$$), array['d user:u1:orders'], 'nor does a cascade');

-- Another column than that of the foreign key, if spaces did not count.
create table public.spaced (id integer unique, "Id" integer primary key, "I d" integer, user_id text);
create table public.spaced_items (id integer primary key, parent_id integer references public.spaced ("Id") on delete cascade);
select cache_invalidation.watch('public.spaced', 'spaced:{user_id}');
select cache_invalidation.watch('public.spaced_items', 'spaced:{o.user_id}', join => 'public.spaced o on o."I d" = row.parent_id');
insert into spaced values (1, 1, 2, 'u');
select is(pg_temp.captured($$insert into spaced_items values (1, 1)$$), array['i spaced:*'], 'spaces in a name count');
select cache_invalidation.unwatch('public.spaced_items');
select cache_invalidation.watch('public.spaced_items', 'spaced:{o.user_id}', join => E'public.spaced o on  o."Id"=\n row . parent_id ');
select is(pg_temp.captured($$delete from spaced$$), array['d spaced:u'], 'spaces between names do not');

-- A bigint child of an integer parent is the same comparison.
create table public.wide_items (id integer primary key, order_id bigint references public.orders on delete cascade);
select cache_invalidation.watch('public.wide_items', 'user:{o.user_id}:orders', join => 'public.orders o on o.id = row.order_id');
insert into orders values (5, 'u5');
insert into wide_items values (1, 5);
select is(pg_temp.captured($$delete from orders$$), array['d user:u5:orders'], 'integers of two sizes');

-- With columns, the primary key tells rows apart; it does not bind inheritance children.
create table public.places (id integer primary key, org text, a integer, b integer);
create table public.old_places (primary key (id)) inherits (public.places);
select cache_invalidation.watch('public.places', 'place:{org}', columns => '{a}');
insert into places values (1, 'o', 1, 0);
insert into old_places values (1, 'o', 2, 1);
select is(pg_temp.captured($$update places set a = 3 - a$$), array['u place:o'], 'rows of two tables with the same key exchange their values');

-- {row.column} is {column}.
select cache_invalidation.watch('public.lists', 'row:{row.user_id}');
select cache_invalidation.watch('public.lists', 'row:{user_id}');
select is((select array_agg(target) from cache_invalidation.watches where target like 'row:%'), array['row:{user_id}'], '{row.column} declares what {column} does');
select is(cache_invalidation.unwatch('public.lists', 'row:{row.user_id}'), 1, 'and takes it back');

select throws_ok($$select cache_invalidation.watch('public.lists', 'year:{id}', min_interval => '400000 years')$$, '22023', null, 'a min_interval beyond all times is refused');

select * from finish();
rollback;
