-- Fencepost 7/9, part 2: watch() and unwatch(), which make functions and triggers match the declarations.
--
-- The functions that people and event triggers call (watch, unwatch, refresh, problems) set the options that decide how SQL text is
-- read and names are quoted, so that they write the same functions in any session.

-- Declares that writes to rel invalidate target. Idempotent; another declaration for the same table and target
-- replaces the old one. A table may be watched for several targets.
--
--   rel           the table
--   target        key or pattern with {column} placeholders, for example quota:{org_id}:*
--   columns       only updates that change one of these columns count (null: all). Changes of the columns in the
--                 target, inserts, deletes and truncates always count.
--   min_interval  after one invalidation of a target, the next of it waits until this has passed; the last is never lost
--   "join"        schema.table alias on condition, for {alias.column} placeholders; the changed row is `row`
--
-- Returns the watch's id. Raises with a hint for what cannot be watched. Waits at most lock_timeout (3 s when unset).
create function cache_invalidation.watch(
  rel regclass, target text, columns text[] default null, min_interval interval default null, "join" text default null
) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
#variable_conflict use_column
declare
  declared cache_invalidation.watches;
  existing cache_invalidation.watches;
  previous_timeout constant text := cache_invalidation.limit_waiting();
begin
  declared.rel := watch.rel;
  declared.target := cache_invalidation.plain_target(watch.target);
  declared.columns := watch.columns;
  declared.min_interval := watch.min_interval;
  declared.join_clause := nullif(pg_catalog.btrim(watch."join"), '');
  if watch.min_interval <= interval '0' then
    raise exception 'min_interval must be positive, not %', watch.min_interval
      using errcode = 'invalid_parameter_value', hint = 'Leave it out (null) to invalidate at once, always.';
  -- adding it to a time must give a valid time
  elsif watch.min_interval > interval '1 year' then
    raise exception 'min_interval is at most a year, not %', watch.min_interval
      using errcode = 'invalid_parameter_value', hint = 'How long may users see what is out of date? Usually seconds or minutes.';
  end if;
  perform cache_invalidation.check_watch(declared);
  declared.row_level := cache_invalidation.needs_row_triggers(watch.rel);
  declared.column_numbers := cache_invalidation.number_columns(declared);
  declared.join_rels := array(select j.rel from cache_invalidation.join_tables(declared.join_clause) as j);
  perform cache_invalidation.name_trusted_owners(declared);

  declared.id := (select known.id from cache_invalidation.watches as known where known.rel = declared.rel and known.target = declared.target);
  insert into cache_invalidation.watches as w
    (rel, target, columns, min_interval, join_clause, join_rels, row_level, column_numbers, declared_as, declared_oid, declared_columns)
  values (declared.rel, declared.target, declared.columns, declared.min_interval, declared.join_clause, declared.join_rels, declared.row_level,
    declared.column_numbers, declared.rel::text, declared.rel::oid, declared.column_numbers)
  on conflict (rel, target) do update
    set columns = excluded.columns, min_interval = excluded.min_interval, join_clause = excluded.join_clause,
      join_rels = excluded.join_rels, row_level = excluded.row_level, served = true, column_numbers = excluded.column_numbers, declared_as = excluded.declared_as,
      declared_oid = excluded.declared_oid, declared_columns = excluded.declared_columns
  returning w.* into existing;
  -- a copy of the schema alone has functions and triggers without declarations, and numbers that begin again
  while declared.id is null and exists (select from cache_invalidation.generated_functions() as g where g.watch_id = existing.id) loop
    update cache_invalidation.watches as w set id = default where w.id = existing.id returning w.* into existing;
  end loop;
  delete from cache_invalidation.dropped_watches as d where d.rel_name = existing.declared_as and d.target = existing.target;
  perform cache_invalidation.apply_watch(existing);
  perform cache_invalidation.apply_dependents(existing);
  perform pg_catalog.set_config('lock_timeout', previous_timeout, true);
  return existing.id;
end
$$;

-- Removes one declaration, or all of a table. Returns how many there were. Waits at most lock_timeout (3 s when unset). `name` names
-- the table as problems() does, also when it was dropped.
create function cache_invalidation.unwatch(rel regclass default null, target text default null, name text default null) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  w cache_invalidation.watches;
  removed integer;
  known_target constant text := cache_invalidation.plain_target(unwatch.target);
  previous_timeout constant text := cache_invalidation.limit_waiting();
begin
  delete from cache_invalidation.dropped_watches as d
    where d.rel_name = coalesce(unwatch.name, unwatch.rel::text) and (known_target is null or d.target = known_target);
  get diagnostics removed = row_count;
  for w in
    select found.* from cache_invalidation.watches as found
    where found.rel = coalesce(unwatch.rel, pg_catalog.to_regclass(unwatch.name)) and (known_target is null or found.target = known_target)
  loop
    perform cache_invalidation.remove_watch(w);
    perform cache_invalidation.apply_dependents(w);
    removed := removed + 1;
  end loop;
  perform pg_catalog.set_config('lock_timeout', previous_timeout, true);
  return removed;
end
$$;

-- A target as it is stored: {row.a} becomes {a}, so that both are one declaration.
create function cache_invalidation.plain_target(target text) returns text
language sql immutable
return regexp_replace(target, '\{(row|"row")\.', '{', 'g');

-- The names and numbers of the columns that a declaration names.
create function cache_invalidation.number_columns(w cache_invalidation.watches) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(pg_catalog.jsonb_object_agg(a.attname, a.attnum), '{}')
  from pg_catalog.unnest(cache_invalidation.named_columns(w.target, w.columns, w.join_clause)) as named(col)
  join pg_catalog.pg_attribute as a on a.attrelid = w.rel and a.attname = named.col and a.attnum > 0 and not a.attisdropped
$$;

-- Whether a joined row may be missing depends on what else is watched (see join_sql): rewrite the functions of the
-- watches that join this one's table.
create function cache_invalidation.apply_dependents(changed cache_invalidation.watches) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  w cache_invalidation.watches;
begin
  for w in
    select dependent.* from cache_invalidation.watches as dependent
    where dependent.id <> changed.id and changed.rel = any (dependent.join_rels)
  loop
    begin
      perform cache_invalidation.apply_watch(w);
    exception
      -- problems() reports a join that no longer matches its tables; this watch need not
      when undefined_table or undefined_column then null;
    end;
  end loop;
end
$$;
