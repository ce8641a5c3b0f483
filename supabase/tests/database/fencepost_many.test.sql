-- Statements of many rows name exactly what they changed: nothing is cut off, no two changes cancel each other out, and
-- nothing of the table's owner runs with Fencepost's rights.
\ir fencepost_preamble.psql

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
  array['i pair:*', 'i pair:y:q'], 'of two columns a NULL in the first is everything');
select is(pg_temp.captured($$insert into pairs select 60000 + i, 'a' || i % 10, null from generate_series(1, 5000) as i$$),
  array(select 'i pair:a' || i || ':*' from generate_series(0, 9) as i), 'and in the last one group');

-- Numbers of rows around the limits: of targets, and of the changes of one transaction that are read first
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

create table public.spread (id integer primary key, kind text);
select cache_invalidation.watch('public.spread', 'spread:{kind}');
select is(pg_temp.captured($$insert into spread select i, 'k' || greatest(i - 10000, 0) from generate_series(1, 10999) as i$$), array(select 'i spread:k' || i from generate_series(0, 999) as i order by ('k' || i) collate "C"),
  '1 000 targets, all but one of them behind the first 10 000 changes');
select is(pg_temp.captured($$delete from spread; insert into spread select i, 'k' || greatest(i - 10000, 0) from generate_series(1, 11000) as i$$), array['d spread:*'], '1 001');
select is(pg_temp.captured($$update spread set kind = kind || 'x' where id > 10500$$), array(select 'u spread:k' || i || x from generate_series(501, 1000) as i, unnest(array['', 'x']) as x order by ('k' || i || x) collate "C"), '1 000 targets, of two keys each');
select is(pg_temp.captured($$update spread set kind = kind || 'y' where id > 10499$$), array['u spread:*'], '1 002');

-- Without a primary key two rows may exchange their values.
create table public.keyless (org text, name text unique, a integer, o text, n text);
select cache_invalidation.watch('public.keyless', 'keyless:{org}:*', columns => '{a}');
insert into keyless values ('one', 'foo', 1), ('one', 'bar', 2), ('two', 'baz', 3);
select is(pg_temp.captured($$update keyless set a = 3 - a where org = 'one'$$), array['u keyless:one:*'], 'values that rows exchange are changes');
select is(pg_temp.captured($$update keyless set a = a$$), '{}', 'no change is none');
select is(pg_temp.captured($$update keyless set o = 'x' where name = 'foo'$$), '{}', 'nor is a change of another column, in one row');
select is(pg_temp.captured($$update keyless set a = a + 1, n = 'x' where name = 'foo'$$), array['u keyless:one:*'], 'a change in one row');

-- Children without a parent add nothing, and none of their siblings is forgotten.
create table public.carts (id integer primary key, user_id text not null);
create table public.cart_items (id integer primary key, cart_id integer references public.carts on delete cascade, v integer not null default 0);
insert into carts select i, 'u' || i from generate_series(1, 5) as i;
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
select cache_invalidation.watch('public.carts', 'cart:{user_id}');
select is(pg_temp.captured($$delete from carts where id = 5$$), array['d cart:u5', 'd cart:u5'], 'DELETE of a parent that is watched for the same target by itself: once for each watch');

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

-- More key columns than a function takes arguments
do $$
begin
  execute (select format('create table public.columns (id integer primary key, %s)', string_agg(format('c%s text', i), ', ' order by i)) from generate_series(1, 120) as i);
  perform cache_invalidation.watch('public.columns', format('of%s:', part) || string_agg(format('{c%s}', i), ':' order by i)) from generate_series(1, 120) as i, lateral (select (i - 1) / 30 as part) as p group by part;
  perform cache_invalidation.watch('public.columns', 'last:{c120}', columns => '{id}');
end
$$;
create function pg_temp.of_columns(op text, ids integer[]) returns text[] language sql as $$
  select array_agg(t.line order by t.line collate "C") from (
    select format('%s of%s:%s', op, part, string_agg('v' || (i + id), ':' order by i)) from unnest(ids) as id, generate_series(1, 120) as i, lateral (select (i - 1) / 30 as part) as p group by id, part
    union all select format('%s last:v%s', op, 120 + id) from unnest(ids) as id
  ) as t(line)
$$;
select is(pg_temp.captured((select format('insert into columns select 1, %s', string_agg(format('''v%s''', i + 1), ', ' order by i)) from generate_series(1, 120) as i)), pg_temp.of_columns('i', '{1}'), 'INSERT: 120 key columns');
select is(pg_temp.captured((select format('update columns set id = 2, %s', string_agg(format('c%s = ''v%s''', i, i + 2), ', ' order by i)) from generate_series(1, 120) as i)), pg_temp.of_columns('u', '{1,2}'), 'UPDATE: 120 key columns of two rows');
select is(pg_temp.captured('delete from columns'), pg_temp.of_columns('d', '{2}'), 'DELETE: 120 key columns');

-- A value longer than a regular expression can look at
create table public.long (id integer primary key, k text);
select cache_invalidation.watch('public.long', 'long:{k}');
select is(pg_temp.captured($$insert into long values (1, repeat('a', 270000000))$$), array['i long:~' || encode(sha256(convert_to(repeat('a', 270000000), 'UTF8')), 'hex')], 'a key of 270 MB');

select * from finish();
rollback;
