-- Fencepost 7/9, part 1: the functions and triggers that a watch must have, and how they come and go.

-- Whether some writes reach the table without firing its statement triggers: through a partitioned table or an inheritance parent, or
-- from a publication.
create function cache_invalidation.needs_row_triggers(rel regclass) returns boolean
language sql stable
return exists (select from pg_class as c where c.oid = rel and c.relkind = 'p')
  or exists (select from pg_inherits as i where i.inhrelid = rel)
  or exists (select from pg_subscription_rel as s where s.srrelid = rel);

-- A table and what is below it, partitions or inheritance children. (Without locks, which pg_partition_tree() takes.)
create function cache_invalidation.table_tree(top regclass) returns table (rel regclass, kind "char")
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive tree(rel) as (
    select top::oid
    union
    select i.inhrelid from tree join pg_catalog.pg_inherits as i on i.inhparent = tree.rel
  )
  select c.oid::regclass, c.relkind from tree join pg_catalog.pg_class as c on c.oid = tree.rel
$$;

-- Postgres refuses statements that reach a foreign table below one with transition tables. watch() refuses an ordinary table with such a
-- child; one that gets it later has triggers that read no rows, and every write invalidates its whole type.
create function cache_invalidation.has_foreign_table_below(top regclass) returns boolean
language sql stable
return exists (select from cache_invalidation.table_tree(top) as t where t.kind = 'f');

-- The triggers that a watch must have: on which table, name, function, and the rest of CREATE TRIGGER.
create function cache_invalidation.wanted_triggers(w cache_invalidation.watches)
returns table (rel regclass, name text, function_name text, definition text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select w.rel, pg_catalog.format('fencepost_%s_%s', w.id, kind.name),
    pg_catalog.format(kind.function_name, w.id), kind.definition
  from pg_catalog.pg_class as c,
    (values
      (false, false, 'blind_insert', 'capture_%s_insert', 'after insert on %s for each statement'),
      (false, false, 'blind_update', 'capture_%s_update', 'after update on %s for each statement'),
      (false, false, 'blind_delete', 'capture_%s_delete', 'after delete on %s for each statement'),
      (false, false, 'insert', 'capture_%s_insert', 'after insert on %s referencing new table as new_rows for each statement'),
      (false, false, 'update', 'capture_%s_update', 'after update on %s referencing old table as old_rows new table as new_rows for each statement'),
      (false, false, 'delete', 'capture_%s_delete', 'after delete on %s referencing old table as old_rows for each statement'),
      (true, false, 'row_insert', 'capture_%s_insert', 'after insert on %s for each row'),
      (true, false, 'row_update', 'capture_%s_update', 'after update on %s for each row'),
      (true, false, 'row_delete', 'capture_%s_delete', 'after delete on %s for each row'),
      (true, true, 'reduce_insert', 'reduce_%s', 'after insert on %s referencing new table as new_rows for each statement'),
      (true, true, 'reduce_update', 'reduce_%s', 'after update on %s referencing new table as new_rows for each statement'),
      (true, true, 'reduce_delete', 'reduce_%s', 'after delete on %s referencing old table as old_rows for each statement')
    ) as kind(row_level, partitioned, name, function_name, definition)
  where c.oid = w.rel and kind.row_level = w.row_level
    and (not kind.partitioned or (c.relkind = 'p' and not cache_invalidation.has_foreign_table_below(w.rel)))
    and (kind.row_level or (kind.name like 'blind%') = cache_invalidation.has_foreign_table_below(w.rel))
  union all
  -- TRUNCATE triggers are not inherited: one for the table and one for each of its partitions
  select tree.rel, pg_catalog.format('fencepost_%s_truncate', w.id), pg_catalog.format('capture_%s_truncate', w.id),
    'after truncate on %s for each statement'
  from cache_invalidation.table_tree(w.rel) as tree
  where tree.rel = w.rel
    or (tree.kind in ('r', 'p') and exists (select from pg_catalog.pg_class as c where c.oid = w.rel and c.relkind = 'p'))
$$;

-- The trigger functions that there are, and the number of the watch that each was generated for.
create function cache_invalidation.generated_functions() returns table (function regprocedure, watch_id integer)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select p.oid::regprocedure, pg_catalog.substring(p.proname, '\d+')::integer
  from pg_catalog.pg_proc as p
  where p.pronamespace = 'cache_invalidation'::regnamespace
    and p.proname ~ '^(capture_\d{1,9}_(insert|update|delete|truncate)|reduce_\d{1,9})$'
$$;

-- The triggers that a watch has, and whether each fires always; that of a partitioned table only if its clones in all partitions do.
create function cache_invalidation.present_triggers(w cache_invalidation.watches)
returns table (rel regclass, name text, function_name text, always boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with found as materialized (
    select t.tgrelid, t.tgname, p.proname, t.tgenabled = 'A' as always, t.tgparentid
    from pg_catalog.unnest(array[
        'capture_' || w.id || '_insert', 'capture_' || w.id || '_update', 'capture_' || w.id || '_delete', 'capture_' || w.id || '_truncate',
        'reduce_' || w.id]) as generated(name)
    join pg_catalog.pg_proc as p on p.proname = generated.name and p.pronamespace = 'cache_invalidation'::regnamespace
    -- through pg_depend, because pg_trigger has no index on its functions
    join pg_catalog.pg_depend as d
      on d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid and d.classid = 'pg_trigger'::regclass
    join pg_catalog.pg_trigger as t on t.oid = d.objid
  )
  select t.tgrelid::regclass, t.tgname::text, t.proname::text,
    -- hashed, because a table may have thousands of partitions
    t.always and t.tgname not in (select clone.tgname from found as clone where clone.tgparentid <> 0 and not clone.always)
  from found as t
  where t.tgparentid = 0
$$;

-- Whether a statement trigger of the watch fires without transition tables, or is about to. Its function must not name them: the name
-- would mean whatever the writer's temporary schema has under it, which then runs with the rights of the function's owner.
create function cache_invalidation.has_no_transition_tables(w cache_invalidation.watches) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select not w.row_level and (
    cache_invalidation.has_foreign_table_below(w.rel)
    or exists (select from cache_invalidation.present_triggers(w) as p where p.name like 'fencepost\_%\_blind\_%'))
$$;

-- Writes one generated trigger function if its text changed; returns whether it did. Takes no lock on any table.
create function cache_invalidation.write_function(name text, body text, settings text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
-- name, body and settings are generated: @plpgsql_check_options: security_warnings = false
declare
  owner regrole;
begin
  if exists (
    select from pg_catalog.pg_proc as p
    where p.pronamespace = 'cache_invalidation'::regnamespace and p.proname = name and p.prosrc = body
  ) then
    return false;
  end if;
  execute pg_catalog.format(
    'create or replace function cache_invalidation.%I() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp %s as %L',
    name, settings, body);
  execute pg_catalog.format('revoke all on function cache_invalidation.%I() from public', name);
  -- whoever calls watch(), the function writes the outbox as the schema's owner
  select n.nspowner::regrole into owner from pg_catalog.pg_namespace as n where n.nspname = 'cache_invalidation';
  if owner <> current_user::regrole then
    execute pg_catalog.format('alter function cache_invalidation.%I() owner to %s', name, owner);
  end if;
  return true;
end
$$;

-- Drops a generated trigger function, if it is there.
create function cache_invalidation.drop_function(name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_catalog.to_regprocedure(pg_catalog.format('cache_invalidation.%I()', name)) is not null then
    execute pg_catalog.format('drop function cache_invalidation.%I()', name);
  end if;
end
$$;

-- Rewrites one watch's functions where their text changed; returns whether one of the capture functions did. The functions of a watch that cannot be served read no column and no other
-- table. Takes no lock on any table.
create function cache_invalidation.write_functions(w cache_invalidation.watches) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  changed boolean;
begin
  if not w.served then
    w.target := cache_invalidation.type_wildcard(w.target);
    w.columns := null;
    w.join_clause := null;
  end if;
  select pg_catalog.bool_or(cache_invalidation.write_function(
    pg_catalog.format('capture_%s_%s', w.id, o.operation), cache_invalidation.capture_body(w, o.operation),
    pg_catalog.concat_ws(' ',
      -- the text of a projection must tell different values apart whatever the writer's session has set
      case when w.columns is not null then
        'set extra_float_digits = 1 set intervalstyle = postgres set bytea_output = hex set datestyle = ''ISO, YMD'' set timezone = ''UTC''' end,
      -- a joined row that a policy hides must be an error, which widens, and not a missing parent
      case when w.join_clause is not null then 'set row_security = off' end)))
    into changed
    from pg_catalog.unnest('{insert,update,delete,truncate}'::text[]) as o(operation);
  if w.row_level then
    perform cache_invalidation.write_function('reduce_' || w.id, cache_invalidation.reduce_body(w), 'set enable_seqscan = off');
  end if;
  return changed;
end
$$;

-- Makes one watch's functions and triggers match its declaration. What matches already takes no lock. A disabled trigger is enabled
-- again, except within_ddl: ALTER TABLE … DISABLE TRIGGER must not undo itself. The caller has called limit_waiting(), because
-- creating a trigger waits for writers, and other writers wait behind it.
--
-- A trigger or function that begins to capture, or that captures more, ends a gap: writes before it left no target, so the whole type
-- is invalidated. So it is by a partition that comes or goes with rows.
create function cache_invalidation.apply_watch(w cache_invalidation.watches, within_ddl boolean default false) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
-- definitions come from wanted_triggers(): @plpgsql_check_options: security_warnings = false
declare
  wanted record;
  stale record;
  captured boolean := false;
  gap boolean;
  previous_mark constant text := coalesce(pg_catalog.current_setting('cache_invalidation.refreshing', true), '');
begin
  -- our own DDL needs no event trigger
  perform pg_catalog.set_config('cache_invalidation.refreshing', 'on', true);
  gap := cache_invalidation.write_functions(w) and not within_ddl;
  for stale in
    select p.* from cache_invalidation.present_triggers(w) as p
    where not exists (
      select from cache_invalidation.wanted_triggers(w) as n
      where n.rel = p.rel and n.name = p.name and n.function_name = p.function_name)
  loop
    captured := captured or stale.always;
    -- a detached partition, whose rows are gone from here
    gap := gap or stale.rel <> w.rel and pg_catalog.pg_relation_size(stale.rel) > 0;
    execute pg_catalog.format('drop trigger %I on %s', stale.name, stale.rel);
  end loop;
  for wanted in
    select n.*, p.name is null as missing
    from cache_invalidation.wanted_triggers(w) as n
    left join cache_invalidation.present_triggers(w) as p on p.rel = n.rel and p.name = n.name
    where p.name is null or (p.always is not true and not within_ddl)
  loop
    if wanted.missing then
      execute pg_catalog.format('create trigger %I %s execute function cache_invalidation.%I()',
        wanted.name, pg_catalog.format(wanted.definition, wanted.rel), wanted.function_name);
    end if;
    -- within_ddl neither an empty partition nor a trigger in place of another is one
    gap := gap or not within_ddl
      or case when wanted.rel = w.rel then not captured else pg_catalog.pg_relation_size(wanted.rel) > 0 end;
    -- also when session_replication_role is replica
    execute pg_catalog.format('alter table %s enable always trigger %I', wanted.rel, wanted.name);
  end loop;
  -- triggers that have transition tables again
  perform cache_invalidation.write_functions(w);
  if not w.row_level then
    perform cache_invalidation.drop_function('reduce_' || w.id);
  end if;
  if gap then
    perform cache_invalidation.invalidate(cache_invalidation.type_wildcard(w.target));
  end if;
  perform pg_catalog.set_config('cache_invalidation.refreshing', previous_mark, true);
exception
  when lock_not_available then
    perform cache_invalidation.refuse_busy(w);
  when object_in_use then
    raise exception 'the table % has pending trigger events: this transaction has written to it', w.rel
      using errcode = 'object_in_use',
        hint = 'Call watch() before such writes or in another transaction, or first: set constraints all immediate;';
end
$$;

-- Removes a watch's triggers and functions; its table may be gone already. The caller has called limit_waiting(), because dropping a
-- trigger waits for readers too, and they wait behind it.
create function cache_invalidation.remove_watch(w cache_invalidation.watches) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  present record;
  previous_mark constant text := coalesce(pg_catalog.current_setting('cache_invalidation.refreshing', true), '');
begin
  perform pg_catalog.set_config('cache_invalidation.refreshing', 'on', true);
  for present in select p.* from cache_invalidation.present_triggers(w) as p loop
    execute pg_catalog.format('drop trigger %I on %s', present.name, present.rel);
  end loop;
  perform cache_invalidation.drop_function(pg_catalog.format('capture_%s_%s', w.id, o.operation))
    from pg_catalog.unnest('{insert,update,delete,truncate}'::text[]) as o(operation);
  perform cache_invalidation.drop_function('reduce_' || w.id);
  delete from cache_invalidation.watches as gone where gone.id = w.id;
  perform pg_catalog.set_config('cache_invalidation.refreshing', previous_mark, true);
exception
  when lock_not_available then
    perform cache_invalidation.refuse_busy(w);
  when object_in_use then
    raise exception 'the table % has pending trigger events: this transaction has written to it', w.rel
      using errcode = 'object_in_use', hint = 'Call unwatch() in another transaction, or first: set constraints all immediate;';
end
$$;
