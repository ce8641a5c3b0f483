-- Fencepost: watch(), unwatch() and refresh(), which people call. They set the options that decide how SQL text is read and names are
-- quoted, so that they write the same functions in any session.

-- Writes a declaration down, in the place of one for the same table and target. Returns its id.
create function cache_invalidation.save_watch(w cache_invalidation.watches) returns integer language sql set search_path = pg_catalog, pg_temp
as $$
  insert into cache_invalidation.watches as made
    (id, rel, target, columns, min_interval, join_clause, hops, foreign_key, implied_by, declared_as, known_as, declared_oid, declared_columns)
  overriding system value
  values (
    coalesce((
      select known.id from cache_invalidation.watches as known
      where known.rel = w.rel and known.target = w.target and known.implied_by is not distinct from w.implied_by), nextval('cache_invalidation.watches_id_seq')),
    w.rel, w.target, w.columns, w.min_interval, w.join_clause, w.hops, w.foreign_key, w.implied_by, w.rel::text, w.rel::text, w.rel,
    cache_invalidation.number_columns(w))
  on conflict (id) do update
    set columns = excluded.columns, min_interval = excluded.min_interval, join_clause = excluded.join_clause, hops = excluded.hops,
      foreign_key = excluded.foreign_key
  returning made.id
$$;

-- A join gives the parent as it is when the worker claims, so each change of a parent must name its targets itself. This makes the
-- watches that see to it: of each parent, for the same target as far as its columns and those of the parents behind it name it,
-- whenever a column changes that the join or the target reads. Returns the parents' tables, former ones too.
create function cache_invalidation.imply(w cache_invalidation.watches) returns oid[] language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  tables oid[] := array(select known.rel from cache_invalidation.watches as known where known.implied_by = w.id);
  implied cache_invalidation.watches;
  kept integer[] := array[]::integer[];
  hop cache_invalidation.hop;
  below cache_invalidation.hop;
  reached text[];
  segment record;
begin
  foreach hop in array w.hops loop
    implied := w;
    implied.implied_by := w.id;
    implied.foreign_key := null;
    implied.rel := hop.parent;
    implied.hops := '{}';
    reached := array[hop.alias];
    foreach below in array w.hops loop
      if below.child_aliases <@ reached then
        reached := reached || below.alias;
        below.child_aliases := array_replace(below.child_aliases, hop.alias, '');
        implied.hops := implied.hops || below;
      end if;
    end loop;
    implied.join_clause := cache_invalidation.join_text(implied.hops);
    implied.target := null;
    for segment in select s.* from cache_invalidation.template_segments(w.target) as s order by s.place loop
      implied.target := concat_ws(':', implied.target, case
        when segment.literal is not null or segment.alias = any (reached[2:]) then segment.written
        when segment.alias = hop.alias then cache_invalidation.placeholder('', segment.col)
        else '*' end);
      exit when implied.target like '%*';
    end loop;
    implied.columns := array(
      select u.name collate "C" from cache_invalidation.used_columns(w) as u where u.alias = hop.alias
      union
      -- of an earlier step to the same table
      select c.name from cache_invalidation.watches as known cross join unnest(known.columns) as c(name)
      where known.id = any (kept) and known.rel = implied.rel and known.target = implied.target
      order by 1);
    kept := kept || cache_invalidation.save_watch(implied);
  end loop;
  delete from cache_invalidation.watches as known where known.implied_by = w.id and known.id <> all (kept);
  return tables || array(select h.parent::oid from unnest(w.hops) as h);
end
$$;

-- Declares that writes to rel invalidate target, in the place of a former declaration for both: docs/capture.md#watch. Returns the
-- watch's id.
create function cache_invalidation.watch(
  rel regclass, target text, columns text[] default null, min_interval interval default null, "join" text default null
) returns integer language plpgsql set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
#variable_conflict use_column
declare
  w cache_invalidation.watches;
  parent oid;
  previous_timeout text;
begin
  w.rel := watch.rel;
  w.target := cache_invalidation.plain_target(watch.target);
  w.columns := watch.columns;
  w.min_interval := watch.min_interval;
  w.hops := cache_invalidation.read_join(w.rel, watch."join");
  w.join_clause := cache_invalidation.join_text(w.hops);
  w.foreign_key := cache_invalidation.named_key(w.rel, watch."join");
  -- first, because begin_declaring() needs rights that it asks for with a hint
  perform cache_invalidation.check_watch(w);
  previous_timeout := cache_invalidation.begin_declaring();

  w.id := cache_invalidation.save_watch(w);
  delete from cache_invalidation.dropped_watches as d where d.rel_name = w.rel::text and d.target = w.target;
  foreach parent in array cache_invalidation.imply(w) || w.rel::oid loop
    perform cache_invalidation.bring_in_line(parent, only_declared => true);
  end loop;
  -- this is what is meant now, of the joined tables too
  update cache_invalidation.watches as known
    set declared_as = known.rel::text, declared_oid = known.rel, declared_columns = cache_invalidation.number_columns(known),
      declared_join = known.join_clause
    where w.id in (known.id, known.implied_by);
  perform set_config('lock_timeout', previous_timeout, true);
  return w.id;
end
$$;

-- A target as it is stored: {row.a} becomes {a}, so that both are one declaration.
create function cache_invalidation.plain_target(target text) returns text language sql immutable set search_path = pg_catalog, pg_temp
return regexp_replace(target, '\{(row|"row")\.', '{', 'g');

-- Removes one declaration, or all of a table. Returns how many there were. `name` names the table as problems() does, also when it was
-- dropped.
create function cache_invalidation.unwatch(rel regclass default null, target text default null, name text default null) returns integer language plpgsql
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  w cache_invalidation.watches;
  removed integer;
  parent oid;
  known_target constant text := cache_invalidation.plain_target(unwatch.target);
  previous_timeout constant text := cache_invalidation.begin_declaring();
begin
  delete from cache_invalidation.dropped_watches as d
    where d.rel_name = coalesce(unwatch.name, unwatch.rel::text) and (known_target is null or d.target = known_target);
  get diagnostics removed = row_count;
  for w in
    delete from cache_invalidation.watches as known
    where known.rel = coalesce(unwatch.rel, cache_invalidation.named(unwatch.name)) and (known_target is null or known.target = known_target) and known.implied_by is null
    returning known.*
  loop
    removed := removed + 1;
    if w.hops <> '{}' then
      -- changes that wait for their claim will find no parent's change beside them
      perform cache_invalidation.invalidate_types(array[w.target]);
    end if;
    foreach parent in array array(select h.parent::oid from unnest(w.hops) as h) || w.rel::oid loop
      perform cache_invalidation.bring_in_line(parent, only_declared => true);
    end loop;
  end loop;
  perform set_config('lock_timeout', previous_timeout, true);
  return removed;
end
$$;

-- The declarations of tables that were dropped, or renamed, where another table has the name now and is not watched for the target.
create function cache_invalidation.unwatched() returns setof cache_invalidation.dropped_watches language sql stable set search_path = pg_catalog, pg_temp
as $$
  select u.*
  from (
    select d.* from cache_invalidation.dropped_watches as d
    union
    select w.declared_as, w.target, w.columns, w.min_interval, w.join_clause, w.foreign_key
    from cache_invalidation.watches as w where w.implied_by is null and cache_invalidation.named(w.declared_as, w.rel) <> w.rel
  ) as u
  where cache_invalidation.named(u.rel_name) is not null
    and not exists (select from cache_invalidation.watches as w where w.rel = cache_invalidation.named(u.rel_name) and w.target = u.target)
  order by u.rel_name, u.target
$$;

-- The declarations that join a table which was dropped, where their join can be read again, with a table of its last or first name.
create function cache_invalidation.joinable_again() returns setof cache_invalidation.watches language sql stable set search_path = pg_catalog, pg_temp
as $$
  select (jsonb_populate_record(w, jsonb_build_object('join_clause', again.clause))).*
  from cache_invalidation.watches as w cross join lateral (
    select c.clause from (values (1, w.join_clause), (2, w.declared_join)) as c(place, clause)
    where not exists (select from unnest(cache_invalidation.read_join(w.rel, c.clause, must_exist => false)) as h where h.parent is null)
    order by c.place
    limit 1) as again
  where w.implied_by is null and exists (select from unnest(w.hops) as h where not exists (select from pg_class as c where c.oid = h.parent))
$$;

-- Makes all watches match their tables, and watches and joins the tables that have the name of one that was dropped or renamed;
-- returns how many watches there were. A watch that matches takes no lock; one that cannot be served gets a WARNING and stops no other. A
-- migration that changes the engine ends with this call, so that the generated functions are rewritten.
create function cache_invalidation.refresh() returns integer language plpgsql
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  previous_timeout constant text := cache_invalidation.begin_declaring();
  declared constant integer := (select count(*) from cache_invalidation.watches as w where w.implied_by is null);
  concerned constant oid[] := array(select o.rel from cache_invalidation.out_of_line() as o(rel));
  changed oid;
  w cache_invalidation.watches;
  lost cache_invalidation.dropped_watches;
begin
  -- what happened meanwhile is not known: rows that were rewritten, names that were exchanged
  if not cache_invalidation.sees_ddl() or exists (select from cache_invalidation.catalog_differences('{0}')) then
    perform cache_invalidation.invalidate_types(array(select known.target from cache_invalidation.watches as known));
    perform cache_invalidation.keep_catalog_snapshot('{0}');
  end if;
  foreach changed in array concerned loop
    perform cache_invalidation.bring_in_line(changed);
  end loop;
  -- after renames, which a child's declaration follows as well
  for w in
    select found.* from cache_invalidation.watches as found
    where found.implied_by is null and exists (select from unnest(found.hops) as h where found.rel = any (concerned) or h.parent = any (concerned))
  loop
    foreach changed in array cache_invalidation.imply(w) loop
      perform cache_invalidation.bring_in_line(changed);
    end loop;
  end loop;
  for lost in
    select u.* from cache_invalidation.unwatched() as u
    union all
    select j.rel::text, j.target, j.columns, j.min_interval, j.join_clause, j.foreign_key from cache_invalidation.joinable_again() as j
  loop
    begin
      perform cache_invalidation.watch(cache_invalidation.named(lost.rel_name), lost.target, lost.columns, lost.min_interval, lost.join_clause);
      update cache_invalidation.watches as known set foreign_key = lost.foreign_key
        where known.rel = cache_invalidation.named(lost.rel_name) and known.target = lost.target and known.implied_by is null;
      perform cache_invalidation.bring_in_line(cache_invalidation.named(lost.rel_name));
    exception
      when lock_not_available then
        raise;
      when others then
        raise warning '% cannot be watched for % as the table of that name was: %', lost.rel_name, quote_literal(lost.target), sqlerrm
          using hint = format('watch() what it has become, then: select cache_invalidation.unwatch(name => %L, target => %L);', lost.rel_name, lost.target);
    end;
  end loop;
  perform set_config('lock_timeout', previous_timeout, true);
  return declared;
end
$$;
