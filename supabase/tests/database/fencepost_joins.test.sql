-- Joins: a row names its parent as the parent is when the worker claims, and each change of a parent names what it was and what it is.
-- So a row without its parent adds nothing.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

-- Runs a statement and gives what it left in the outbox: operation and target, sorted.
-- (Each once: a child's and a parent's watch are two and may name the same target.)
create function pg_temp.captured(statement text) returns text[] language plpgsql as $$
begin
  delete from cache_invalidation.changes;
  execute statement;
  return array(
    select found.line from (
      select distinct o.target, coalesce(o.op::text, '~') || ' ' || o.target || coalesce(' ' || o.error, '') as line from cache_invalidation.outbox as o
    ) as found order by found.target, found.line);
end
$$;

create table public.shop_orders (id integer primary key, user_id text, note text);
create table public.shop_items (id integer primary key, order_id integer references public.shop_orders on delete cascade, sku text, n integer default 0);
select cache_invalidation.watch('public.shop_items', 'user:{o.user_id}:orders', join => 'public.shop_orders o on o.id = row.order_id');
select results_eq($$select rel::text, target, columns, implied_by is not null from cache_invalidation.watches where rel in ('public.shop_items'::regclass, 'public.shop_orders'::regclass) order by id$$,
  $$values ('shop_items', 'user:{o.user_id}:orders', null::text[], false), ('shop_orders', 'user:{user_id}:orders', array['id', 'user_id'], true)$$,
  'the parent is watched for the same target, whenever its key or a joined column changes');

-- the child's own changes
insert into shop_orders values (1, 'u1'), (2, 'u2'), (3, 'u:3');
select is(pg_temp.captured($$insert into shop_items values (1, 1), (2, 2), (3, 3)$$), array['i user:u%3A3:orders', 'i user:u1:orders', 'i user:u2:orders'], 'INSERT');
select is(pg_temp.captured($$update shop_items set n = 1 where id = 1$$), array['u user:u1:orders'], 'UPDATE');
select is(pg_temp.captured($$update shop_items set order_id = 2 where id = 1$$), array['u user:u1:orders', 'u user:u2:orders'], 'old and new parent');
select is(pg_temp.captured($$delete from shop_items where id = 1$$), array['d user:u2:orders'], 'DELETE');
select is(pg_temp.captured($$insert into shop_items values (4, null)$$), '{}', 'a row without a parent adds nothing');
select is((select count(*) from cache_invalidation.changes), 1::bigint, 'but is a change');
select results_eq($$select cardinality(xids), changes, targets from cache_invalidation.claim()$$, $$values (1, 1::bigint, null::text[])$$, 'that a batch has to acknowledge without a target');
select is(pg_temp.captured($$update shop_items set order_id = 1 where id = 4$$), array['u user:u1:orders'], 'a row that gets a parent');
select is(pg_temp.captured($$update shop_items set order_id = null where id = 4$$), array['u user:u1:orders'], 'a row that leaves its parent');
select is(pg_temp.captured($$truncate shop_items$$), array['t user:*'], 'TRUNCATE');
insert into shop_items values (1, 1), (2, 2), (3, 3);

-- the parent's
select is(pg_temp.captured($$update shop_orders set note = 'x'$$), '{}', 'a parent''s other column counts for nothing');
select is(pg_temp.captured($$update shop_orders set user_id = 'v1' where id = 1$$), array['u user:u1:orders', 'u user:v1:orders'], 'a parent that moves');
select is(pg_temp.captured($$insert into shop_orders values (5, 'u5')$$), array['i user:u5:orders'], 'a parent that comes');
select is(pg_temp.captured($$delete from shop_orders where id = 3$$), array['d user:u%3A3:orders'], 'a parent that goes, with its children');
select is(pg_temp.captured($$update shop_orders set user_id = null where id = 5$$), array['u user:*', 'u user:u5:orders'], 'a joined column that becomes NULL widens');
select is(pg_temp.captured($$insert into shop_items values (6, 5)$$), array['i user:*'], 'also for a row of such a parent');
select is(pg_temp.captured($$truncate shop_orders cascade$$), array['t user:*'], 'TRUNCATE of the parent');

-- both, in one transaction: the child reads its parent as it is at the claim
insert into shop_orders values (1, 'u1'), (2, 'u2');
insert into shop_items values (1, 1);
select is(pg_temp.captured($$update shop_items set n = 1 where id = 1; update shop_orders set user_id = 'w1' where id = 1$$), array['u user:u1:orders', 'u user:w1:orders'], 'the parent moves after the child was written');
select is(pg_temp.captured($$update shop_orders set user_id = 'x1' where id = 1; update shop_items set n = 2 where id = 1$$), array['u user:w1:orders', 'u user:x1:orders'], 'the parent moves before');
select is(pg_temp.captured($$update shop_orders set user_id = 'y1' where id = 1; update shop_orders set user_id = 'z1' where id = 1$$), array['u user:x1:orders', 'u user:y1:orders', 'u user:z1:orders'], 'the parent moves twice');
select is(pg_temp.captured($$insert into shop_items values (2, 2); delete from shop_orders where id = 2$$), array['d user:u2:orders'], 'the parent goes after the child has come');
select is(pg_temp.captured($$insert into shop_orders values (3, 'u3'); insert into shop_items values (3, 3)$$), array['i user:u3:orders'], 'both come');
select is(pg_temp.captured($$delete from shop_items where id = 3; delete from shop_orders where id = 3$$), array['d user:u3:orders'], 'both go');
set local session_replication_role = replica;
select is(pg_temp.captured($$insert into shop_items values (7, 7), (8, 1), (9, 8)$$), array['i user:z1:orders'], 'where no foreign key is enforced: rows before their parents add nothing');
select is(pg_temp.captured($$insert into shop_orders values (7, 'u7')$$), array['i user:u7:orders'], 'the parent names them when it comes');
select is(pg_temp.captured($$delete from shop_orders where id = 7$$), array['d user:u7:orders'], 'and when it goes without them');
select is(pg_temp.captured($$update shop_items set order_id = 1 where id = 7$$), array['u user:z1:orders'], 'a row that was left behind');
delete from shop_items where id = 9;
reset session_replication_role;

-- columns of the child; a parent that is watched for the same target by itself; another join; none
select cache_invalidation.watch('public.shop_items', 'user:{o.user_id}:orders', columns => array['n'], join => 'public.shop_orders o on o.id = row.order_id');
select is(pg_temp.captured($$update shop_items set sku = 'x'$$), '{}', 'columns: another column');
select is(pg_temp.captured($$update shop_items set n = 9 where id = 1$$), array['u user:z1:orders'], 'columns: the column');
select is(pg_temp.captured($$update shop_items set order_id = null where id = 1$$), array['u user:z1:orders'], 'columns: the key always counts');
select is(pg_temp.captured($$update shop_orders set user_id = 'u1' where id = 1$$), array['u user:u1:orders', 'u user:z1:orders'], 'columns: of the child alone');
select cache_invalidation.watch('public.shop_orders', 'user:{user_id}:orders');
select is(pg_temp.captured($$update shop_orders set note = 'y' where id = 1$$), array['u user:u1:orders'], 'a parent watched by itself: every change counts');
select is((select count(*) from cache_invalidation.watches where rel = 'public.shop_orders'::regclass and target = 'user:{user_id}:orders'), 2::bigint, 'beside what the child implies');
select cache_invalidation.watch('public.shop_items', 'user:{o.user_id}:{sku}:{row.n}', join => 'public.shop_orders o on o.id = row.order_id', min_interval => '1 minute');
update shop_items set order_id = 1 where id = 8;
select is(pg_temp.captured($$update shop_items set sku = 's' where id = 8$$), array['u user:u1:s:0', 'u user:u1:x:0'], 'columns of both tables in one target');
select is(pg_temp.captured($$update shop_items set sku = 't' where id = 8$$), array['u user:u1:s:0', 'u user:u1:t:0'], 'the child moves within it');
select is(pg_temp.captured($$update shop_orders set user_id = 'v' where id = 1$$), array['u user:u1:*', 'u user:u1:orders', 'u user:v:*', 'u user:v:orders'], 'of the parent''s change as much as its columns name');
select results_eq($$select target, min_interval from cache_invalidation.watches where implied_by is not null and rel = 'public.shop_orders'::regclass order by id$$,
  $$values ('user:{user_id}:orders', null::interval), ('user:{user_id}:*', '1 minute')$$, 'the parent''s interval is the child''s');
select cache_invalidation.watch('public.shop_items', 'user:{o.user_id}:{sku}:{row.n}', join => 'public.shop_orders o on o.id = row.order_id', min_interval => '1 second');
select is((select min_interval from cache_invalidation.watches where implied_by is not null and target = 'user:{user_id}:*'), interval '1 second', 'and becomes another with it');
select is(cache_invalidation.unwatch('public.shop_items', 'user:{o.user_id}:{sku}:{row.n}'), 1, 'unwatch() counts what was declared');
select is((select count(*) from cache_invalidation.watches where target = 'user:{user_id}:*'), 0::bigint, 'and takes along what it implied');
select is(cache_invalidation.unwatch('public.shop_orders'), 1, 'unwatch() of the parent leaves what the child implies');
select is(pg_temp.captured($$update shop_orders set user_id = 'u1' where id = 1$$), array['u user:u1:orders', 'u user:v:orders'], 'which goes on');
create table public.shop_notes (id integer primary key, order_id integer);
select cache_invalidation.watch('public.shop_notes', 'user:{o.user_id}:orders', join => 'public.shop_orders o on o.id = row.order_id');
select cache_invalidation.unwatch('public.shop_items');
select is(pg_temp.captured($$update shop_orders set user_id = 'v' where id = 1$$), array['u user:u1:orders', 'u user:v:orders'], 'also as long as another child needs it');
select cache_invalidation.unwatch('public.shop_notes');
select is((select count(*) from pg_trigger where tgname like 'fencepost%' and tgrelid in ('public.shop_orders'::regclass, 'public.shop_items'::regclass)), 0::bigint, 'then no trigger is left');

-- an item waits for its claim, while the order that it belongs to goes to somebody else and nobody watches that any more
select cache_invalidation.watch('public.shop_items', 'user:{o.user_id}:orders', join => 'public.shop_orders o on o.id = row.order_id');
select is(pg_temp.captured($$update shop_items set sku = 'u' where id = 8; select cache_invalidation.unwatch('public.shop_items'); update shop_orders set user_id = 'w' where id = 1$$),
  array['~ user:*', 'u user:w:orders'], 'unwatch() invalidates the type: the former parent is named by nothing else');

-- several steps
create table public.shop_customers (id text primary key, tenant text);
insert into shop_customers values ('u1', 'tenant-1'), ('u2', 'tenant-2');
truncate shop_orders cascade;
insert into shop_orders values (1, 'u1');
insert into shop_items values (5, 1, 'x');
select cache_invalidation.watch('public.shop_items', 'tenant:{c.tenant}:{row.sku}', join => 'public.shop_orders o on o.id = row.order_id join public.shop_customers c on c.id = o.user_id');
select results_eq($$select rel::text, target, columns, join_clause from cache_invalidation.watches where target like 'tenant:%' and implied_by is not null order by id$$,
  $$values ('shop_orders', 'tenant:{c.tenant}:*', array['id', 'user_id'], 'public.shop_customers c on c.id = row.user_id'), ('shop_customers', 'tenant:{tenant}:*', array['id', 'tenant'], null)$$, 'two steps: each parent is watched');
select is(pg_temp.captured($$update shop_items set sku = 'y' where id = 5$$), array['u tenant:tenant-1:x', 'u tenant:tenant-1:y'], 'two steps: the row');
select is(pg_temp.captured($$update shop_orders set user_id = 'u2' where id = 1$$), array['u tenant:tenant-1:*', 'u tenant:tenant-2:*'], 'two steps: the first parent moves');
select is(pg_temp.captured($$update shop_customers set tenant = 'tenant-3' where id = 'u2'$$), array['u tenant:tenant-2:*', 'u tenant:tenant-3:*'], 'two steps: the second parent moves');
select is(pg_temp.captured($$update shop_customers set id = 'u3' where id = 'u2'$$), array['u tenant:tenant-3:*'], 'two steps: the second parent gets another key');
select is(pg_temp.captured($$update shop_items set sku = 'z' where id = 5$$), '{}', 'two steps: then the row has none');
select is(pg_temp.captured($$update shop_orders set user_id = 'u3' where id = 1$$), array['u tenant:tenant-3:*'], 'two steps: until the first parent finds it');
select is(pg_temp.captured($$delete from shop_customers where id = 'u3'; delete from shop_orders where id = 1$$), array['d tenant:tenant-3:*'], 'two steps: both parents go');
select cache_invalidation.unwatch('public.shop_items');

-- a foreign key's name; several columns; one table twice; a table that refers to itself
create table public.accounts (tenant integer, number bigint, owner text, primary key (tenant, number));
create table public.transfers (id integer primary key, tenant integer, source bigint, destination integer, kind text default 'k',
  constraint "of source" foreign key (tenant, source) references public.accounts on update cascade,
  constraint of_destination foreign key (destination, tenant) references public.accounts (number, tenant) on update cascade);
insert into accounts values (1, 10, 'ann'), (1, 20, 'bob'), (2, 10, 'cid');
select cache_invalidation.watch('public.transfers', 'from:{accounts.owner}:{tenant}', join => 'of source');
select is(pg_temp.captured($$insert into transfers values (1, 1, 10, 20)$$), array['i from:ann:1'], 'a foreign key''s name: its alias is the parent''s name');
select is((select join_clause from cache_invalidation.watches where target = 'from:{accounts.owner}:{tenant}'), 'public.accounts accounts on accounts.tenant = row.tenant and accounts.number = row.source', 'and it is kept as text');
select is(pg_temp.captured($$insert into transfers values (2, 1, null, 20), (3, null, 10, null)$$), '{}', 'a key that is NULL in part has no parent');
select cache_invalidation.watch('public.transfers', 'both:{a.owner}:{b.owner}:{kind}', join => 'public.accounts a on a.tenant = row.tenant and row.source = a.number left join public.accounts as b on b.number = row.destination and b.tenant = row.tenant');
select is(pg_temp.captured($$update transfers set kind = 'l' where id = 1$$), array['u both:ann:bob:k', 'u both:ann:bob:l', 'u from:ann:1'], 'one table twice, by keys of two columns');
select is(pg_temp.captured($$update accounts set owner = 'eve' where number = 10 and tenant = 1$$), array['u both:*', 'u both:ann:*', 'u both:eve:*', 'u from:ann:*', 'u from:eve:*'], 'and changed once');
select is(pg_temp.captured($$update transfers set source = 20, destination = 10 where id = 1$$), array['u both:bob:eve:l', 'u both:eve:bob:l', 'u from:bob:1', 'u from:eve:1'], 'parents that are exchanged');
select is(pg_temp.captured($$update accounts set number = 11 where number = 10 and tenant = 1$$), array['u both:*', 'u both:bob:eve:l', 'u both:eve:*', 'u from:bob:1', 'u from:eve:*'], 'a parent''s new key, with ON UPDATE CASCADE');
create table public.folders (id integer primary key, parent_id integer constraint folder_parent references public.folders on delete set null, name text);
select cache_invalidation.watch('public.folders', 'folder:{folders.name}', join => 'folder_parent');
insert into folders values (1, null, 'root'), (2, 1, 'usr'), (3, 2, 'bin');
select is(pg_temp.captured($$insert into folders values (4, 2, 'lib')$$), array['i folder:lib', 'i folder:usr'], 'a table that refers to itself: a row is child and parent');
select is(pg_temp.captured($$update folders set name = 'opt' where id = 2$$), array['u folder:opt', 'u folder:root', 'u folder:usr'], 'and moves');
select is(pg_temp.captured($$delete from folders where id = 2$$), array['d folder:opt', 'd folder:root'], 'and goes');

-- the way to a parent may divide, and its change then names what can be told from there
create table public.teams (id integer primary key, name text, lead_id integer, folder_id integer);
create table public.reports (id integer primary key, team_id integer, folder_id integer);
create table public.places (lead_id integer, folder_id integer, city text, primary key (lead_id, folder_id));
insert into teams values (1, 'blue', 7, 1);
insert into places values (7, 1, 'rome'), (7, 2, 'oslo'), (8, 1, 'bonn');
select cache_invalidation.watch('public.reports', 'report:{t.name}:{p.city}:{g.name}:{id}', join => 'public.teams t on t.id = row.team_id join public.places p on p.lead_id = t.lead_id and p.folder_id = row.folder_id join public.folders g on g.id = t.folder_id');
select results_eq($$select rel::text, target, columns from cache_invalidation.watches where target like 'report:%' and implied_by is not null order by id$$,
  $$values ('teams', 'report:{name}:*', '{folder_id,id,lead_id,name}'::text[]), ('places', 'report:*', '{city,folder_id,lead_id}'), ('folders', 'report:*', '{id,name}')$$, 'three tables: what each parent names');
select is(pg_temp.captured($$insert into reports values (1, 1, 1)$$), array['i report:blue:rome:root:1'], 'three tables: the row');
select is(pg_temp.captured($$update teams set lead_id = 8$$), array['u report:blue:*'], 'three tables: the parent between');
select is(pg_temp.captured($$update reports set folder_id = 2 where id = 1$$), array['u report:blue:bonn:root:1'], 'three tables: a row that loses one of its parents');
select is(pg_temp.captured($$insert into places values (8, 2, 'kiev')$$), array['i report:*'], 'three tables: which comes');
select is(pg_temp.captured($$update reports set id = 2$$), array['u report:blue:kiev:root:1', 'u report:blue:kiev:root:2'], 'three tables: and is found');
select cache_invalidation.watch('public.folders', 'far:{g.name}', join => 'public.folders p on p.id = row.parent_id join public.folders g on g.id = p.parent_id');
insert into folders values (20, 1, 'usr'), (30, 20, 'bin');
select ok(pg_temp.captured($$insert into folders values (31, 20, 'lib')$$) @> array['i far:root'], 'a table joined to itself twice: the row');
select ok(pg_temp.captured($$update folders set parent_id = 4 where id = 20$$) @> array['u far:root'], 'the parent between moves');
select ok(pg_temp.captured($$update folders set name = 'slash' where id = 1$$) @> array['u far:root', 'u far:slash'], 'the farthest moves');
select cache_invalidation.unwatch('public.folders');

-- a parent that goes with its table widens what names it, and no other
insert into reports values (3, 1, 1);
savepoint before_drop;
select is(pg_temp.captured($$drop table public.places$$), array['~ report:*'], 'DROP TABLE of a parent');
select is(pg_temp.captured($$update reports set id = 4 where id = 3$$), array['u report:* 42804'], 'and widens');
select is(pg_temp.captured($$update teams set name = 'red'$$), array['u report:blue:*', 'u report:red:*'], 'another parent names the same as before');
select is((select string_agg(problem, '; ') from cache_invalidation.problems() where watch_id is not null), 'writes to public.reports invalidate the whole type of report:{t.name}:{p.city}:{g.name}:{id}: the joined table p was dropped', 'problems() says why');
rollback to before_drop;

-- children that go with their table: what they implied goes, too
select is(pg_temp.captured($$drop table public.reports$$), array['~ report:*'], 'DROP TABLE of the child');
select is((select count(*) from cache_invalidation.watches where rel in ('public.teams'::regclass, 'public.places'::regclass, 'public.folders'::regclass)), 0::bigint, 'its parents are not watched any more');
select is((select count(*) from pg_trigger where tgname like 'fencepost%' and tgrelid in ('public.teams'::regclass, 'public.places'::regclass, 'public.folders'::regclass)), 0::bigint, 'and have no trigger');

-- a join without a column of it; a parent that is both near and far
select cache_invalidation.watch('public.transfers', 'all:transfers', join => 'of_destination');
select is(pg_temp.captured($$update transfers set kind = 'm' where id = 1$$) @> array['u all:transfers'], true, 'no column of the joined table');
select is(pg_temp.captured($$insert into transfers values (9, 1, null, null)$$), '{}', 'a row without its parent adds nothing all the same');
select cache_invalidation.unwatch('public.transfers');

-- partitioned parents; one partition alone; inheritance on both sides
create table public.whole (id integer primary key, user_id text) partition by range (id);
create table public.part partition of public.whole for values from (0) to (1000);
create table public.part_rest partition of public.whole default;
create table public.of_whole (id integer primary key, whole_id integer references public.whole on update cascade);
select cache_invalidation.watch('public.of_whole', 'part:{o.user_id}', join => 'public.part o on o.id = row.whole_id');
select cache_invalidation.watch('public.of_whole', 'whole:{o.user_id}', join => 'public.whole o on o.id = row.whole_id');
insert into whole values (1, 'u1'), (2000, 'u2000');
select is(pg_temp.captured($$insert into of_whole values (1, 1), (2, 2000), (3, null)$$), array['i part:u1', 'i whole:u1', 'i whole:u2000'], 'a partitioned parent, and a partition of it');
select is(pg_temp.captured($$update whole set user_id = user_id || 'x'$$), array['u part:u1', 'u part:u1x', 'u whole:u1', 'u whole:u1x', 'u whole:u2000', 'u whole:u2000x'], 'parents in two partitions move');
select is(pg_temp.captured($$update whole set id = 3000 where id = 1$$) @> array['d part:u1x', 'd whole:u1x'], true, 'a parent that moves into another partition');
select is(pg_temp.captured($$update of_whole set id = 10 where id = 1$$), array['u whole:u1x'], 'is none of the partition that it left');
create table public.lists (id integer primary key, user_id text);
create table public.entries (id integer primary key, list_id integer, n integer);
create table public.old_lists (primary key (id)) inherits (public.lists);
create table public.old_entries () inherits (public.entries);
select cache_invalidation.watch('public.entries', 'list:{o.user_id}', join => 'public.lists o on o.id = row.list_id');
insert into lists values (1, 'u1');
insert into old_lists values (2, 'u2');
select is(pg_temp.captured($$insert into entries values (1, 1); insert into old_entries values (2, 2), (3, 99)$$), array['i list:u1', 'i list:u2'], 'inheritance children of both tables');
select is(pg_temp.captured($$update lists set user_id = user_id || 'x'$$), array['u list:u1', 'u list:u1x', 'u list:u2', 'u list:u2x'], 'parents among them');
select is(pg_temp.captured($$delete from old_lists$$), array['d list:u2x'], 'a change of the child table');

-- Only what cannot be read widens: one declaration of several.
select cache_invalidation.watch('public.entries', 'entry:{id}');
select cache_invalidation.watch('public.entries', 'shop:{o.user_id}', join => 'public.shop_orders o on o.id = row.list_id');
insert into shop_orders values (1, 'u1');
select is(pg_temp.captured($$insert into entries values (20, 1)$$), array['i entry:20', 'i list:u1x', 'i shop:u1'], 'three declarations, two of them with joins');
create role fencepost_test_owner;
grant usage on schema cache_invalidation, public to fencepost_test_owner;
grant all on all tables in schema cache_invalidation to fencepost_test_owner;
grant execute on all functions in schema cache_invalidation to fencepost_test_owner;
grant select on shop_orders, lists to fencepost_test_owner;
alter function cache_invalidation.run_target_query owner to fencepost_test_owner;
alter table shop_orders enable row level security;
select is(pg_temp.captured($$insert into entries values (21, 1)$$), array['i entry:21', 'i list:u1x', 'i shop:* 42501'], 'a parent that row level security hides is no missing one');
revoke select on lists from fencepost_test_owner;
select is(pg_temp.captured($$insert into entries values (22, 1)$$), array['i entry:22', 'i list:* 42501', 'i shop:* 42501'], 'nor one that may not be read');
select is((select string_agg(error, ' ' order by error) from (select unnest(errors) as error from cache_invalidation.claim()) as e), '42501 42501', 'as a batch says');

-- without event triggers
reset role;
drop event trigger fencepost_drop;
drop table public.entries cascade;
select cache_invalidation.refresh();
select is((select count(*) from pg_trigger where tgname like 'fencepost%' and tgrelid in ('public.lists'::regclass, 'public.shop_orders'::regclass)), 0::bigint, 'a child that was dropped unseen: refresh() takes the triggers off its parents');
delete from cache_invalidation.watches where rel = 'public.of_whole'::regclass;
select is((select array_agg(substring(problem, 'captured for .* declared') order by problem) from cache_invalidation.problems() where problem ~ 'no longer declared'),
  array['captured for public.of_whole, and no longer declared', 'captured for public.part, and no longer declared', 'captured for public.whole, and no longer declared'], 'triggers whose declarations were deleted are a problem');
select cache_invalidation.refresh();
select is((select count(*) from pg_trigger where tgname like 'fencepost%' and tgrelid in ('public.of_whole'::regclass, 'public.part'::regclass, 'public.whole'::regclass)), 0::bigint, 'which refresh() ends');

select * from finish();
rollback;
