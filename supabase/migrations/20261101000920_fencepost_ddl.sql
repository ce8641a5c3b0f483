-- Fencepost 9/9, part 4: event triggers, which keep the watches in step with DDL as it happens.
--
--   ALTER TABLE, ALTER TYPE, …   a renamed column is followed, with a warning when another takes its name; what cannot be served any more (a column's new type has no
--                                canonical text) is refused with a hint
--   CREATE TABLE, ATTACH         a new partition gets its TRUNCATE trigger
--   ALTER … that rewrites rows   invalidates the type: `alter column … type … using` changes values and fires no trigger
--   DROP TABLE                   its watches are removed
--   DROP COLUMN                  refused with a hint when a watch needs the column, also with CASCADE
--
-- Creating event triggers needs a superuser, or on Supabase the role postgres. Where it is not allowed the rest works
-- without: see _refresh.

-- The watches that a DDL command can concern: of the table itself, of its ancestors, of a partition, and all with a join (their
-- text names other tables and columns).
create function cache_invalidation.concerned_watches(relations oid[]) returns setof cache_invalidation.watches
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select w.* from cache_invalidation.watches as w
  where w.join_clause is not null
    or w.rel = any (relations)
    -- it was attached to, or detached from, a parent that nobody watches
    or w.row_level <> cache_invalidation.needs_row_triggers(w.rel)
    or exists (
      select from pg_catalog.unnest(relations) as changed(rel), pg_catalog.pg_partition_ancestors(changed.rel) as ancestor(rel)
      where ancestor.rel = w.rel)
    or exists (select from pg_catalog.pg_attribute as a where a.attrelid = w.rel and a.atttypid = any (
      select t.oid from pg_catalog.pg_type as t where t.oid = any (relations)))
  order by w.id
$$;

-- Refreshes one watch within somebody's DDL statement: refuses the statement when the watch can no longer be served, and only
-- warns when it is we who lack a right, a lock, or (after a restore) the knowledge which column is which.
create function cache_invalidation.refresh_within_ddl(w cache_invalidation.watches) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  reason text;
  remedy text;
begin
  perform cache_invalidation.refresh_watch(w, within_ddl => true);
exception
  when insufficient_privilege or lock_not_available then
    raise warning 'the watch of % for % was not brought in line: %', w.rel, w.target, sqlerrm
      using hint = 'As the owner of both: select cache_invalidation.refresh();';
  when object_not_in_prerequisite_state then
    get stacked diagnostics reason = message_text, remedy = pg_exception_hint;
    raise warning 'the watch of % for % invalidates the whole type now: %', w.rel, w.target, reason using hint = remedy;
  when others then
    reason := sqlerrm;
    raise exception 'the watch of % for % needs what this statement takes away: %', w.rel, pg_catalog.quote_literal(w.target), reason
      using errcode = sqlstate,
        hint = pg_catalog.format('First: select cache_invalidation.unwatch(%L, %L); then watch() what the table has become.', w.rel, w.target);
end
$$;

create function cache_invalidation.on_ddl() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  w cache_invalidation.watches;
  swap record;
  changed oid[];
begin
  -- our own CREATE TRIGGER and ALTER TABLE … ENABLE ALWAYS TRIGGER
  if pg_catalog.current_setting('cache_invalidation.refreshing', true) = 'on'
    or not exists (select from cache_invalidation.watches)
  then
    return;
  end if;
  select pg_catalog.array_agg(c.objid) into changed
    from pg_catalog.pg_event_trigger_ddl_commands() as c
    where c.schema_name is distinct from 'cache_invalidation' and c.schema_name is distinct from 'pg_temp';
  if changed is null then
    return;
  end if;
  for w in select found.* from cache_invalidation.concerned_watches(changed) as found loop
    perform cache_invalidation.refresh_within_ddl(w);
  end loop;
  for w in
    select found.* from cache_invalidation.watches as found
    where found.rel = any (changed) or pg_catalog.to_regclass(found.declared_as) = any (changed)
    order by found.id
  loop
    for swap in select s.* from cache_invalidation.swapped(w) as s loop
      raise warning '%', swap.problem using hint = swap.remedy;
    end loop;
  end loop;
end
$$;

create function cache_invalidation.on_drop() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  w cache_invalidation.watches;
begin
  if pg_catalog.current_setting('cache_invalidation.refreshing', true) = 'on' then
    return;
  end if;
  for w in
    select found.* from cache_invalidation.watches as found
    where found.join_clause is not null
      or exists (select from pg_catalog.pg_event_trigger_dropped_objects() as d where d.objid = found.rel)
  loop
    -- removes the watch of a dropped table
    perform cache_invalidation.refresh_within_ddl(w);
  end loop;
end
$$;

-- Whether a watch reads a table (or the partitioned table it belongs to), itself or by its join.
create function cache_invalidation.reads_table(w cache_invalidation.watches, rel regclass) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on
as $$
declare
  related constant regclass[] := array(select a.relid from pg_catalog.pg_partition_ancestors(reads_table.rel) as a) || reads_table.rel;
begin
  return w.rel = any (related)
    or exists (select from cache_invalidation.join_tables(w.join_clause) as j where j.rel = any (related));
exception
  -- the join is out of step with its tables
  when others then return true;
end
$$;

-- The rows that a statement is about to rewrite may get other values, without a write. (Of a partitioned table it is called
-- for each partition.)
create function cache_invalidation.on_rewrite() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform cache_invalidation.invalidate(types.target)
    from (
      select distinct cache_invalidation.type_wildcard(w.target) as target
      from cache_invalidation.watches as w
      where cache_invalidation.reads_table(w, pg_catalog.pg_event_trigger_table_rewrite_oid())
    ) as types;
end
$$;

do $$
begin
  create event trigger fencepost_ddl on ddl_command_end
    when tag in ('ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TYPE', 'ALTER DOMAIN', 'ALTER SCHEMA')
    execute function cache_invalidation.on_ddl();
  create event trigger fencepost_drop on sql_drop
    when tag in ('ALTER TABLE', 'DROP TABLE', 'DROP SCHEMA', 'DROP TYPE', 'DROP DOMAIN', 'DROP OWNED', 'DROP EXTENSION')
    execute function cache_invalidation.on_drop();
  create event trigger fencepost_rewrite on table_rewrite execute function cache_invalidation.on_rewrite();
exception
  when insufficient_privilege then
    raise notice 'Fencepost works without event triggers, which % may not create', current_user
      using detail = 'After a watched column is renamed or dropped, writes succeed but invalidate its whole type until refresh() is called.',
        hint = 'After changing a watched table: select cache_invalidation.refresh();';
end
$$;
