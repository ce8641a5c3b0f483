-- Joins that are declared by the name of a foreign key follow the key, whatever becomes of it.
\ir fencepost_preamble.psql

-- owner: the user that the key of line 1 leads to now
create function pg_temp.check_key(change text, owner text, firing text) returns setof text language plpgsql as $$
declare
  title constant text := firing || ', ' || change;
  captured text[];
begin
  drop table if exists public.lines, public.orders, public.accounts;
  create table public.orders (id integer primary key, second integer unique, user_id text);
  create table public.accounts (id integer primary key, user_id text);
  create table public.lines (id integer primary key, order_id integer constraint of_order references public.orders, account_id integer);
  insert into public.orders values (1, 2, 'one'), (2, 1, 'two');
  insert into public.accounts values (1, 'account');
  perform cache_invalidation.watch('public.lines', 'user:{orders.user_id}', join => 'of_order');
  perform pg_temp.event_triggers(firing);
  captured := pg_temp.captured(change);
  if firing = 'disable' then
    return next is(exists (select from cache_invalidation.problems() as p where p.severity = 'error'), owner <> 'one', title || ': problems()');
    perform pg_temp.event_triggers('enable always');
    captured := pg_temp.captured('select cache_invalidation.refresh()');
  end if;
  if owner <> 'one' then
    return next ok('- user:*' = any (captured), title || ': it invalidates the type');
  end if;
  return next is(pg_temp.captured('insert into public.lines values (1, 1, 1)'), array['i user:' || owner], title || ': it is read by the key');
  return next is(pg_temp.captured($s$update public.accounts set user_id = 'changed'$s$),
    case when owner = 'account' then array['u user:account', 'u user:changed'] else '{}' end, title || ': the parent is captured');
  return next is(pg_temp.captured($s$update public.orders set user_id = 'changed' where user_id = 'one'$s$),
    case when owner = 'account' then '{}' else array['u user:changed', 'u user:one'] end, title || ': and the former one no more');
  return next is(pg_temp.problems(), '{}', title || ': without a problem');
end
$$;
select pg_temp.check_key(k.change, k.owner, f.firing)
from (values
  ('alter table public.lines drop constraint of_order, add constraint of_order foreign key (order_id) references public.accounts', 'account'),
  ('alter table public.lines drop constraint of_order; alter table public.lines add constraint of_order foreign key (account_id) references public.accounts', 'account'),
  ('alter table public.lines add constraint of_account foreign key (order_id) references public.accounts not valid; alter table public.lines validate constraint of_account;
    alter table public.lines drop constraint of_order', 'account'),
  ('alter table public.lines add constraint of_account foreign key (order_id) references public.accounts; drop table public.orders cascade; create table public.orders (user_id text)', 'account'),
  ('alter table public.lines rename constraint of_order to of_order_old; alter table public.lines add constraint of_account foreign key (order_id) references public.accounts;
    alter table public.lines rename constraint of_account to of_order', 'account'),
  ('alter table public.lines rename constraint of_order to renamed; alter table public.lines drop constraint renamed;
    alter table public.lines add constraint renamed foreign key (order_id) references public.accounts', 'account'),
  ('alter table public.lines drop constraint of_order, add constraint of_order foreign key (order_id) references public.orders (second)', 'two'),
  ('alter table public.lines drop constraint of_order', 'one'),
  ('alter table public.lines rename constraint of_order to renamed', 'one'),
  ('alter table public.lines add constraint of_account foreign key (order_id) references public.accounts not valid', 'one'),
  ('alter table public.lines alter constraint of_order deferrable', 'one'),
  ('alter table public.lines drop constraint of_order; alter table public.lines add constraint of_order foreign key (order_id) references public.orders not valid;
    alter table public.lines validate constraint of_order', 'one')
) as k(change, owner), unnest('{enable always,disable}'::text[]) as f(firing);

-- columns and tables that are renamed are no other key
select pg_temp.event_triggers('disable');
alter table public.lines rename column order_id to bought;
select is((select count(*) from cache_invalidation.problems() as p where p.severity = 'error'), 0::bigint, 'a renamed column is no other key');
select cache_invalidation.refresh();
select pg_temp.event_triggers('enable always');

-- the table is made again, and its key leads elsewhere
drop table public.lines;
create table public.lines (id integer primary key, bought integer constraint of_order references public.accounts);
select cache_invalidation.refresh();
select is(pg_temp.captured('insert into public.lines values (1, 1)'), array['i user:changed'], 'a table that is made again is joined by its key');
select is(pg_temp.problems(), '{}', 'without a problem');

-- so is one whose parent is made again, with its key only later
drop table public.accounts cascade;
create table public.accounts (id integer primary key, user_id text);
select cache_invalidation.refresh();
alter table public.lines add constraint of_order foreign key (bought) references public.orders not valid;
insert into public.orders values (7, 7, 'seven');
select is(pg_temp.captured('insert into public.lines values (7, 7)'), array['i user:seven'], 'the name of the key outlives its parent');

select * from finish();
rollback;
