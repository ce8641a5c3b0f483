-- Statements of many rows name exactly what they changed: nothing is cut off, no two changes cancel each other out, and
-- nothing of the table's owner runs with Fencepost's rights.
begin;
create extension if not exists pgtap with schema extensions;
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

-- A NULL before the last column makes one target of many keys, which must not use up the limit of targets.
create table public.wide (id integer primary key, a text, b text, c text);
select cache_invalidation.watch('public.wide', 'wide:{a}:{b}:{c}');
create function pg_temp.with_nulls(op text) returns text[] language sql as $$
  select array[op || ' wide:x:*'] || array(select op || ' wide:y:q:r' || i from generate_series(1, 100) as i order by ('wide:y:q:r' || i) collate "C")
$$;
select is(pg_temp.captured($$insert into wide select i, 'x', null, 'c' || i from generate_series(1, 5000) as i
  union all select 50000 + i, 'y', 'q', 'r' || i from generate_series(1, 100) as i$$), pg_temp.with_nulls('i'), 'INSERT: a NULL in the middle of 5 000 keys hides no other key');
select is(pg_temp.captured($$update wide set id = id + 100000$$), pg_temp.with_nulls('u'), 'UPDATE');
select is(pg_temp.captured($$delete from wide$$), pg_temp.with_nulls('d'), 'DELETE');
select is(pg_temp.captured($$insert into wide select i, null, 'b', 'c' || i from generate_series(1, 20000) as i union all select 50000, 'y', 'q', 'r'$$),
  array['i wide:*', 'i wide:y:q:r'], 'and so with 20 000');
select is(pg_temp.captured($$insert into wide select i, 'x', 'b', 'c' || i from generate_series(60000, 90000) as i$$), array['i wide:*'], 'many targets are one wildcard all the same');

create table public.pairs (id integer primary key, a text, b text);
select cache_invalidation.watch('public.pairs', 'pair:{a}:{b}');
select is(pg_temp.captured($$insert into pairs select i, null, 'b' || i from generate_series(1, 5000) as i union all select 50000, 'y', 'q'$$),
  array['i pair:*'], 'of two columns a NULL in the first is everything, whatever else there is');
select is(pg_temp.captured($$insert into pairs select 60000 + i, 'a' || i % 10, null from generate_series(1, 5000) as i$$),
  array(select 'i pair:a' || i || ':*' from generate_series(0, 9) as i), 'and in the last one group');

-- Numbers around the limits at which another query is used
create table public.lines (id integer primary key, kind text, x integer not null default 0, y integer not null default 0);
select cache_invalidation.watch('public.lines', 'line:{kind}');
select cache_invalidation.watch('public.lines', 'x:{kind}', columns => '{x}');
insert into lines select i, 'k' || i % 7 from generate_series(1, 10001) as i;
create function pg_temp.kinds(prefix text) returns text[] language sql as $$ select array(select prefix || i from generate_series(0, 6) as i) $$;
select is(pg_temp.captured(format('update lines set y = y + 1 where id <= %s', n)), pg_temp.kinds('u line:k'), 'UPDATE of ' || n || ' rows')
  from unnest(array[999, 1000, 1001, 9999, 10000, 10001]) as n;
select is(pg_temp.captured(format('update lines set x = x + 1 where id <= %s', n)), pg_temp.kinds('u line:k') || pg_temp.kinds('u x:k'), 'UPDATE of a named column of ' || n || ' rows')
  from unnest(array[999, 1000, 1001, 10001]) as n;
select is(pg_temp.captured($$update lines set x = x + (id = 10001)::integer, y = y + 1$$), pg_temp.kinds('u line:k') || array['u x:k' || 10001 % 7],
  'the one row of many whose named column changed');

-- Without a primary key two rows may exchange their values.
create table public.keyless (org text, name text unique, a integer, o text, n text);
select cache_invalidation.watch('public.keyless', 'keyless:{org}:*', columns => '{a}');
insert into keyless values ('one', 'foo', 1), ('one', 'bar', 2), ('two', 'baz', 3);
select is(pg_temp.captured($$update keyless set a = 3 - a where org = 'one'$$), array['u keyless:one:*'], 'values that rows exchange are changes');
select is(pg_temp.captured($$update keyless set a = a$$), '{}', 'no change is none');
select is(pg_temp.captured($$update keyless set o = 'x' where name = 'foo'$$), '{}', 'nor is a change of another column, in one row');
select is(pg_temp.captured($$update keyless set a = a + 1, n = 'x' where name = 'foo'$$), array['u keyless:one:*'], 'a change in one row');

-- Children without a parent, where the parents are watched for the same target: none of their siblings is forgotten.
create table public.carts (id integer primary key, user_id text not null);
create table public.cart_items (id integer primary key, cart_id integer references public.carts on delete cascade, v integer not null default 0);
insert into carts select i, 'u' || i from generate_series(1, 5) as i;
select cache_invalidation.watch('public.carts', 'cart:{user_id}');
select cache_invalidation.watch('public.cart_items', 'cart:{c.user_id}', join => 'public.carts c on c.id = row.cart_id');
select is(pg_temp.captured($$insert into cart_items values (1, null), (2, 1), (3, 2), (4, 3)$$), array['i cart:u1', 'i cart:u2', 'i cart:u3'], 'INSERT of several children, the first without a parent');
select is(pg_temp.captured($$insert into cart_items values (5, 4), (6, 5), (7, null)$$), array['i cart:u4', 'i cart:u5'], 'the last without');
select is(pg_temp.captured($$insert into cart_items values (8, 4)$$), array['i cart:u4'], 'one with');
select is(pg_temp.captured($$insert into cart_items values (9, null)$$), '{}', 'one without');
select is(pg_temp.captured($$insert into cart_items values (10, null), (11, null), (12, 2)$$), array['i cart:u2'], 'one of three with');
select is(pg_temp.captured($$update cart_items set v = 1 where id <= 4$$), array['u cart:u1', 'u cart:u2', 'u cart:u3'], 'UPDATE of several');
select is(pg_temp.captured($$update cart_items set cart_id = 1 where id = 1$$), array['u cart:u1'], 'one that gets a parent');
select is(pg_temp.captured($$update cart_items set cart_id = null where id in (1, 3)$$), array['u cart:u1', 'u cart:u2'], 'two that lose theirs');
select is(pg_temp.captured($$delete from cart_items where id in (1, 2, 4)$$), array['d cart:u1', 'd cart:u3'], 'DELETE of several');
select is(pg_temp.captured($$delete from carts where id = 4$$), array['d cart:u4'], 'DELETE of a parent');

-- Names that mean something to the function that reads them
create table public.reserved (id integer primary key, found text, tg_op text, x integer);
select cache_invalidation.watch('public.reserved', 'reserved:{found}:{tg_op}');
alter event trigger fencepost_ddl disable;
alter table public.reserved rename column found to was_found;
alter event trigger fencepost_ddl enable;
select is(pg_temp.captured($$insert into reserved values (1, 'a', 'b'), (2, 'c', 'd')$$), array['i reserved:* 42703'], 'a column that is gone is not taken for a variable of its name: INSERT');
select is(pg_temp.captured($$update reserved set x = 1$$), array['u reserved:* 42703'], 'UPDATE');

-- A cast that the enum's owner made
create type public.mood as enum ('fine', 'bad');
create table public.moods (id integer primary key, mood public.mood, x integer);
select cache_invalidation.watch('public.moods', 'mood:{mood}');
create function public.forged(public.mood) returns text language plpgsql as $$ begin raise exception 'ran as %', current_user; end $$;
create cast (public.mood as text) with function public.forged(public.mood);
select is(pg_temp.captured($$insert into moods values (1, 'fine')$$), array['i mood:fine'], 'an enum''s own cast to text is not asked');
select is(pg_temp.captured($$update moods set x = 1$$), array['u mood:fine'], 'nor by an UPDATE');

-- A value longer than a regular expression can look at
create table public.long (id integer primary key, k text, x integer);
select cache_invalidation.watch('public.long', 'long:{k}');
insert into long values (1, repeat('a', 270000000));
select is(pg_temp.captured($$update long set x = 1$$), array['u long:~' || encode(sha256(convert_to(repeat('a', 270000000), 'UTF8')), 'hex')], 'a key of 270 MB');

select * from finish();
rollback;
