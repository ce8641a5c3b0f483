-- Fencepost: watch(), unwatch() and refresh(), which people call. They set the options that decide how SQL text is read and names are
-- quoted, so that they write the same functions in any session.

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
    implied.id := null;
    implied.rel := hop.parent;
    implied.columns := array(select u.name from cache_invalidation.used_columns(w) as u where u.alias = hop.alias order by u.name collate "C");
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
    update cache_invalidation.watches as known
      set columns = case when known.id = any (kept) then known.columns || implied.columns else implied.columns end,
        min_interval = implied.min_interval, hops = implied.hops, join_clause = implied.join_clause
      where known.rel = implied.rel and known.target = implied.target and known.implied_by = w.id
      returning known.id into implied.id;
    if not found then
      insert into cache_invalidation.watches as made
        (rel, target, columns, min_interval, join_clause, hops, implied_by, declared_as, known_as, declared_oid, declared_columns)
      values (implied.rel, implied.target, implied.columns, implied.min_interval, implied.join_clause, implied.hops, w.id, implied.rel::text, implied.rel::text,
        implied.rel, cache_invalidation.number_columns(implied))
      returning made.id into implied.id;
    end if;
    kept := kept || implied.id;
  end loop;
  delete from cache_invalidation.watches as known where known.implied_by = w.id and known.id <> all (kept);
  return tables || array(select h.parent::oid from unnest(w.hops) as h);
end
$$;

-- Declares that writes to rel invalidate target. Idempotent; another declaration for the same table and target
-- replaces the old one. A table may be watched for several targets.
--
--   rel           the table
--   target        key or pattern with {column} placeholders, for example quota:{org_id}:*
--   columns       only updates that change one of these columns count (null: all). Changes of the columns in the
--                 target, inserts, deletes and truncates always count.
--   min_interval  after one invalidation of a target, the next of it waits until this has passed; the last is never lost
--   "join"        a foreign key's name, or schema.table alias on alias.column = row.column, for {alias.column} placeholders
--
-- Returns the watch's id. Raises with a hint for what cannot be watched. Waits at most lock_timeout (half of deadlock_timeout when unset).
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
  -- first, because begin_declaring() needs rights that it asks for with a hint
  perform cache_invalidation.check_relation(watch.rel);
  previous_timeout := cache_invalidation.begin_declaring();
  w.rel := watch.rel;
  w.target := cache_invalidation.plain_target(watch.target);
  w.columns := watch.columns;
  w.min_interval := watch.min_interval;
  w.hops := cache_invalidation.read_join(w.rel, watch."join");
  w.join_clause := cache_invalidation.join_text(w.hops);
  perform cache_invalidation.check_watch(w);
  perform cache_invalidation.check_join(w);

  update cache_invalidation.watches as known
    set columns = w.columns, min_interval = w.min_interval, join_clause = w.join_clause, hops = w.hops
    where known.rel = w.rel and known.target = w.target and known.implied_by is null
    returning known.id into w.id;
  if not found then
    insert into cache_invalidation.watches as made (rel, target, columns, min_interval, join_clause, hops, declared_as, known_as, declared_oid, declared_columns)
    values (w.rel, w.target, w.columns, w.min_interval, w.join_clause, w.hops, w.rel::text, w.rel::text, w.rel, cache_invalidation.number_columns(w))
    returning made.id into w.id;
  end if;
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

-- Removes one declaration, or all of a table. Returns how many there were. Waits at most lock_timeout (half of deadlock_timeout when unset). `name` names
-- the table as problems() does, also when it was dropped.
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
    where known.rel = coalesce(unwatch.rel, to_regclass(unwatch.name)) and (known_target is null or known.target = known_target) and known.implied_by is null
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
  select named.*
  from (
    select d.* from cache_invalidation.dropped_watches as d
    union
    select w.declared_as, w.target, w.columns, w.min_interval, w.join_clause
    from cache_invalidation.watches as w where w.implied_by is null and to_regclass(w.declared_as) <> w.rel
  ) as named
  where to_regclass(named.rel_name) is not null
    and not exists (select from cache_invalidation.watches as w where w.rel = to_regclass(named.rel_name) and w.target = named.target)
  order by named.rel_name, named.target
$$;

-- The declarations that join a table which was dropped, where their join can be read again, with a table of its last or first name.
create function cache_invalidation.joinable_again() returns setof cache_invalidation.watches language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  w cache_invalidation.watches;
begin
  for w in
    select found.* from cache_invalidation.watches as found
    where found.implied_by is null and exists (select from unnest(found.hops) as h where not exists (select from pg_class as c where c.oid = h.parent))
  loop
    foreach w.join_clause in array array[w.join_clause, w.declared_join] loop
      begin
        perform cache_invalidation.read_join(w.rel, w.join_clause);
        return next w;
        exit;
      exception
        when others then null;
      end;
    end loop;
  end loop;
end
$$;

-- Makes all watches match their tables, and watches and joins the tables that have the name of one that was dropped or renamed;
-- returns how many watches there were. It may be called at any time. A watch that matches takes no lock;
-- one that cannot be served gets a WARNING and stops no other. A migration that changes the engine ends with this call, so that
-- the generated functions are rewritten. Waits for a table at most lock_timeout (half of deadlock_timeout when unset).
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
  if not cache_invalidation.sees_ddl('{fencepost_ddl,fencepost_drop,fencepost_rewrite}') then
    perform cache_invalidation.invalidate_types(array(select known.target from cache_invalidation.watches as known));
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
    select j.rel::text, j.target, j.columns, j.min_interval, j.join_clause from cache_invalidation.joinable_again() as j
  loop
    begin
      perform cache_invalidation.watch(lost.rel_name::regclass, lost.target, lost.columns, lost.min_interval, lost.join_clause);
    exception
      when lock_not_available or insufficient_privilege then
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
