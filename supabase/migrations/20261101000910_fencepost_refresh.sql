-- Fencepost: keeping declarations, functions and triggers in step with tables that change.
--
-- What protects the application's writes is in the capture functions themselves: they widen instead of failing.
-- What keeps them precise is refresh(): by event triggers after each DDL statement where the installing role may create them
-- (_ddl), by hand otherwise; problems() says when it is needed.

-- The declaration with the present names of renamed columns. A column is followed by its name, and when the name is gone
-- by its number; null when neither is there. (After a dump and restore the numbers differ, but the names are right.)
create function cache_invalidation.follow_renames(w cache_invalidation.watches) returns cache_invalidation.watches
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  named record;
begin
  for named in
    select numbered.key as old_name, renamed.attname::text as new_name
    from pg_catalog.jsonb_each_text(w.column_numbers) as numbered
    left join pg_catalog.pg_attribute as present
      on present.attrelid = w.rel and present.attname = numbered.key and present.attnum > 0 and not present.attisdropped
    left join pg_catalog.pg_attribute as renamed
      on renamed.attrelid = w.rel and renamed.attnum = numbered.value::smallint and not renamed.attisdropped
    where present.attnum is null
  loop
    if named.new_name is null then
      return null;
    end if;
    w.target := pg_catalog.replace(pg_catalog.replace(w.target, '{' || named.old_name || '}', '{' || named.new_name || '}'),
      '{row.' || named.old_name || '}', '{row.' || named.new_name || '}');
    w.columns := pg_catalog.array_replace(w.columns, named.old_name, named.new_name);
    w.join_clause := pg_catalog.regexp_replace(w.join_clause,
      '\yrow\.(?:' || named.old_name || '\y|"' || named.old_name || '")', 'row.' || pg_catalog.quote_ident(named.new_name), 'gi');
  end loop;
  return w;
end
$$;

-- Brings one watch in line with its table as it is now: renamed columns, other types, new partitions, lost triggers.
-- Removes it when the table is gone. Raises what watch() would raise when it can no longer be served.
create function cache_invalidation.refresh_watch(w cache_invalidation.watches, within_ddl boolean default false) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  followed cache_invalidation.watches;
begin
  if not exists (select from pg_catalog.pg_class as c where c.oid = w.rel) then
    perform cache_invalidation.remove_watch(w);
    return;
  end if;
  followed := cache_invalidation.follow_renames(w);
  if followed.id is null then
    raise exception 'a column that the watch of % for % needs was dropped', w.rel, pg_catalog.quote_literal(w.target)
      using errcode = 'undefined_column',
        hint = pg_catalog.format('First: select cache_invalidation.unwatch(%L, %L);', w.rel, w.target);
  end if;
  perform cache_invalidation.check_watch(followed);
  followed.row_level := cache_invalidation.needs_row_triggers(followed.rel);
  followed.column_numbers := cache_invalidation.number_columns(followed);
  if followed is distinct from w then
    update cache_invalidation.watches as kept
      set target = followed.target, columns = followed.columns, join_clause = followed.join_clause,
        row_level = followed.row_level, column_numbers = followed.column_numbers
      where kept.id = w.id;
  end if;
  perform cache_invalidation.apply_watch(followed, within_ddl);
end
$$;

-- Brings all watches in line; gives how many there are. Harmless at any time, and takes no lock for those that are.
-- A migration that changes the engine ends with it, so that the generated functions are rewritten.
create function cache_invalidation.refresh() returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  w cache_invalidation.watches;
  refreshed integer := 0;
begin
  for w in select found.* from cache_invalidation.watches as found order by found.id loop
    perform cache_invalidation.refresh_watch(w);
    refreshed := refreshed + 1;
  end loop;
  return refreshed;
end
$$;

-- What keeps a watch from being exact or complete, each with the remedy. Empty in good order. Changes nothing.
-- For the worker's `doctor`, hence SECURITY DEFINER: it takes no argument and shows no row of anybody's.
create function cache_invalidation.problems() returns table (watch_id integer, problem text, remedy text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  w cache_invalidation.watches;
  missing text;
  refresh_remedy constant text := 'select cache_invalidation.refresh();';
begin
  for w in select found.* from cache_invalidation.watches as found order by found.id loop
    watch_id := w.id;
    if not exists (select from pg_catalog.pg_class as c where c.oid = w.rel) then
      problem := pg_catalog.format('the table of watch %s (%s) was dropped', w.id, w.target);
      remedy := refresh_remedy;
      return next;
      continue;
    end if;
    begin
      perform cache_invalidation.check_watch(w);
      if not exists (
        select from pg_catalog.pg_proc as p
        where p.pronamespace = 'cache_invalidation'::regnamespace and p.proname = 'capture_' || w.id
          and p.prosrc = cache_invalidation.capture_body(w)
      ) then
        problem := pg_catalog.format('the capture function of %s for %s is out of date', w.rel, w.target);
        remedy := refresh_remedy;
        return next;
      end if;
    exception
      when others then
        problem := pg_catalog.format('writes to %s invalidate the whole type of %s: %s', w.rel, w.target, sqlerrm);
        remedy := 'Rename or restore what is missing and call refresh(), or unwatch() and watch() again: ' || refresh_remedy;
        return next;
    end;
    select pg_catalog.string_agg(n.rel || ' ' || n.name, ', ') into missing
      from cache_invalidation.wanted_triggers(w) as n
      left join cache_invalidation.present_triggers(w) as p on p.rel = n.rel and p.name = n.name
      where p.always is not true;
    if missing is not null then
      problem := 'triggers are missing or disabled: ' || missing;
      remedy := refresh_remedy;
      return next;
    end if;
    if w.row_level <> cache_invalidation.needs_row_triggers(w.rel) then
      problem := pg_catalog.format('%s has become, or is no longer, a partition, an inheritance child or a subscriber''s table', w.rel);
      remedy := refresh_remedy;
      return next;
    end if;
    return query
      select w.id,
        pg_catalog.format('writes made directly to %s, a child of %s, are not seen', child.inhrelid::regclass, w.rel),
        pg_catalog.format('select cache_invalidation.watch(%L, %L);', child.inhrelid::regclass, w.target)
      from pg_catalog.pg_inherits as child
      join pg_catalog.pg_class as parent on parent.oid = child.inhparent and parent.relkind = 'r'
      where child.inhparent = w.rel
        and not exists (
          select from cache_invalidation.watches as other where other.rel = child.inhrelid and other.target = w.target);
    if exists (select from pg_catalog.pg_class as c where c.oid = w.rel and c.relpersistence = 'u') then
      problem := pg_catalog.format('%s is unlogged: a crash empties it without firing a trigger', w.rel);
      remedy := pg_catalog.format('alter table %s set logged;', w.rel);
      return next;
    end if;
  end loop;
  if not exists (select from pg_catalog.pg_event_trigger as e where e.evtname = 'fencepost_ddl' and e.evtenabled <> 'D') then
    watch_id := null;
    problem := 'there are no event triggers, so a renamed or dropped column widens invalidations instead of being followed or refused';
    remedy := 'After changing a watched table: ' || refresh_remedy;
    return next;
  end if;
end
$$;
