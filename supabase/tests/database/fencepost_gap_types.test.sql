-- Types and collations that change while the columns' own catalog rows stay as they were: labels of enums, and names that queries have.
\ir fencepost_preamble.psql

create type public.kind as enum ('a', 'b');
create domain public.kind_domain as public.kind;
create type public.mood as enum ('x');
create collation public.croatian (provider = icu, locale = 'hr');
create schema aside;
create table public.kinds (kind public.kind primary key, owner text);
create table public.lines (id integer primary key, kind public.kind constraint of_kind references public.kinds, v integer);
create table public.own (id integer primary key, kind public.kind_domain, v integer);
create table public.moods (id integer primary key, mood public.mood, v integer);
create table public.words (word text collate public.croatian primary key, owner text);
create table public.uses (id integer primary key, word text, v integer);
insert into public.kinds values ('a', 'ann'), ('b', 'bob');
insert into public.lines values (1, 'a', 1);
insert into public.own values (1, 'a', 1);
insert into public.moods values (1, 'x', 1);
insert into public.words values ('w', 'ann');
insert into public.uses values (1, 'w', 1);
select cache_invalidation.watch('public.lines', 'join:{kinds.owner}', join => 'of_kind'), cache_invalidation.watch('public.own', 'own:{kind}'), cache_invalidation.watch('public.moods', 'mood:{mood}'),
  cache_invalidation.watch('public.uses', 'word:{w.owner}', join => 'public.words w on w.word = row.word');
create function pg_temp.write() returns void language sql as $$
  update public.lines set v = v + 1; update public.own set v = v + 1; update public.moods set v = v + 1; update public.uses set v = v + 1
$$;
create function pg_temp.exact() returns text[] language sql as $$
  select array['u join:ann', 'u mood:x', 'u own:' || (select o.kind from public.own as o), 'u word:ann']
$$;

-- what was written before gives the types of what it may have meant
create function pg_temp.check_change(change text, types text[], firing text) returns setof text language plpgsql as $$
declare
  title constant text := firing || ', ' || change;
begin
  perform pg_temp.event_triggers(firing);
  return next ok(array(select 'u ' || t || ':* 42804' from unnest(types) as t) <@ pg_temp.captured('select pg_temp.write();' || change), title || ': what waits widens');
  if firing = 'disable' then
    return next ok(array(select 'u ' || t || ':* 42804' from unnest(types) as t) <@ pg_temp.captured('select pg_temp.write()'), title || ': later writes widen');
    return next ok(pg_temp.problems()::text ~ 'changed, dropped or restored', title || ': that is a problem');
    perform cache_invalidation.refresh();
    perform pg_temp.event_triggers('enable always');
  else
    return next ok(array(select '- ' || t || ':*' from unnest(types) as t) <@ array(select '- ' || c.change from cache_invalidation.changes as c where c.version is null),
      title || ': it invalidates the types');
  end if;
  return next is(pg_temp.captured('select pg_temp.write()'), pg_temp.exact(), title || ': then targets are exact');
  return next is(pg_temp.problems(), '{}', title || ': without a problem');
end
$$;
select pg_temp.check_change(replace(c.change, 'new', f.firing), c.types, f.firing)
from (values
  (1, 'alter type public.kind rename value ''a'' to ''c''', array['join', 'own']),
  (2, 'alter type public.kind rename value ''b'' to ''d''; alter type public.kind rename value ''c'' to ''b''; alter type public.kind rename value ''d'' to ''a''', array['join', 'own']),
  (3, 'alter type public.kind rename value ''a'' to ''x''; alter type public.kind rename value ''b'' to ''a''; alter type public.kind rename value ''x'' to ''b''', array['join', 'own']),
  (4, 'alter type public.mood add value ''new''', array['mood']),
  (5, 'alter type public.kind rename to kind_2', array['join']),
  (6, 'alter type public.kind_2 set schema aside; alter type aside.kind_2 rename to kind', array['join']),
  (7, 'alter schema aside rename to aside_2', array['join']),
  (8, 'alter type aside_2.kind set schema public; alter schema aside_2 rename to aside', array['join']),
  (9, 'alter collation public.croatian rename to hungarian', array['word']),
  (10, 'alter collation public.hungarian set schema aside', array['word']),
  (11, 'alter schema aside rename to aside_2', array['word']),
  (12, 'alter collation aside_2.hungarian rename to croatian; alter collation aside_2.croatian set schema public; alter schema aside_2 rename to aside', array['word'])
) as c(place, change, types), unnest('{enable always,disable}'::text[]) as f(firing) order by f.firing desc, c.place;

select * from finish();
rollback;
