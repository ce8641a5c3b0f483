-- Fencepost: making functions, triggers and versions follow the declarations of a table, and those follow the table.
--
-- A watch follows what it was declared for: the table by its oid, each column by its number, whatever they are called later. (Numbers
-- count only for the table they were read from: after a dump and restore they may differ, but the names are right.)

-- Waits for tables no longer than lock_timeout. Where it was unset it becomes half of deadlock_timeout (3 s at most), so that in a deadlock
-- this session gives way and not a writer. Gives the setting as it was, for the caller to put back (an error does so by itself). A table
-- that one session waits for keeps its writers waiting. Declarations change one session at a time.
create function cache_invalidation.begin_declaring() returns text language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  previous constant text := current_setting('lock_timeout');
begin
  if previous = '0' then
    perform set_config('lock_timeout', least(3000, ceil(500 * extract(epoch from current_setting('deadlock_timeout')::interval)))::text, true);
  end if;
  lock table cache_invalidation.watches in share row exclusive mode;
  return previous;
exception
  when lock_not_available then
    raise exception 'another session is changing declarations: no lock within %', current_setting('lock_timeout')
      using errcode = 'lock_not_available', hint = 'Nothing was changed. Try again when its transaction has ended.';
end
$$;

-- The statement that makes a declaration, for the relation of that name.
create function cache_invalidation.declaration(w cache_invalidation.watches, rel_name text) returns text language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('select cache_invalidation.watch(%L, %L%s%s%s);', rel_name, w.target,
    ', columns => ' || quote_literal(w.columns::text), ', min_interval => ' || quote_literal(w.min_interval::text),
    ', "join" => ' || quote_literal(w.join_clause))
$$;

-- The steps of a declaration's join. One that was declared by the name of a foreign key follows the key of this name wherever it leads, or
-- where there is none, because it was dropped or renamed, one of the same columns. Its alias stays.
create function cache_invalidation.followed_hops(w cache_invalidation.watches) returns cache_invalidation.hop[] language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  declared constant cache_invalidation.hop := w.hops[1];
  hop cache_invalidation.hop;
begin
  if w.foreign_key is not null then
    select (k.hop).* into hop from cache_invalidation.foreign_keys(w.rel) as k
      where k.name = w.foreign_key or (k.hop).child_columns = declared.child_columns
      order by k.name = w.foreign_key desc, ((k.hop).parent, (k.hop).parent_columns) = (declared.parent, declared.parent_columns) desc, k.name
      limit 1;
  end if;
  if hop.parent is null then
    return w.hops;
  end if;
  hop.alias := declared.alias;
  return array[hop];
end
$$;

-- The declaration with the present names of its tables and columns, found by their numbers. What was dropped keeps its name.
create function cache_invalidation.follow_renames(w cache_invalidation.watches) returns cache_invalidation.watches language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  renames constant jsonb := (
    select jsonb_object_agg(c.alias || '.' || c.name, a.attname)
    from cache_invalidation.versions as v cross join lateral unnest(v.reads) as c
    join pg_attribute as a on a.attrelid = c.rel and a.attnum = c.number and not a.attisdropped
    where v.rel = w.rel and v.retired is null and v.watch_id = w.id and a.attname <> c.name
      -- not after a restore
      and c.rel = case when c.alias = '' then w.rel::oid else (select h.parent::oid from unnest(w.hops) as h where h.alias = c.alias) end);
begin
  if renames is not null then
    w := cache_invalidation.rename_columns(w, renames);
  end if;
  w.known_as := w.rel::text;
  w.hops := cache_invalidation.followed_hops(w);
  -- the name of a table that is gone stays
  if not exists (select from unnest(w.hops) as h where not exists (select from pg_class as c where c.oid = h.parent)) then
    w.join_clause := cache_invalidation.join_text(w.hops);
  end if;
  return w;
end
$$;

-- The numbers of the declaration's columns in its own table, by name.
create function cache_invalidation.number_columns(w cache_invalidation.watches) returns jsonb language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(a.attname, a.attnum), '{}')
  from cache_invalidation.used_columns(w) as u
  join pg_attribute as a on a.attrelid = u.rel and a.attname = u.name and a.attnum > 0 and not a.attisdropped
  where u.alias = ''
$$;

-- Keeps a declaration whose table is gone, under this name.
create function cache_invalidation.remember(w cache_invalidation.watches, rel_name text) returns void language sql set search_path = pg_catalog, pg_temp
as $$
  insert into cache_invalidation.dropped_watches
    select rel_name, w.target, w.columns, w.min_interval, w.join_clause, w.foreign_key where w.implied_by is null
  on conflict (rel_name, target) do update
    set columns = excluded.columns, min_interval = excluded.min_interval, join_clause = excluded.join_clause, foreign_key = excluded.foreign_key
$$;

-- Drops the retired versions of all tables that hardly a change will name: what ran when the retiring transaction took its id has ended,
-- and there is no change. (A writer that took its own id between that and the commit may be open. Its changes give `*`.)
create function cache_invalidation.drop_ended_versions() returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  unused regprocedure;
begin
  for unused in
    with ended as (
      delete from cache_invalidation.versions as v
      where v.retired < pg_snapshot_xmin(pg_current_snapshot()) and not exists (select from cache_invalidation.changes)
      returning v.id, v.function
    )
    -- (a materialized view has none)
    select p.oid from pg_proc as p
    where p.pronamespace = 'cache_invalidation'::regnamespace and (p.proname in (select cache_invalidation.target_function(e.id) from ended as e)
      -- of a table that was dropped
      or p.proname in (select e.function from ended as e) and not cache_invalidation.is_called(p.oid)
        and p.proname not in (select v.function from cache_invalidation.versions as v where v.id not in (select e.id from ended as e)))
  loop
    execute format('drop function %s', unused);
  end loop;
end
$$;

-- Makes the version, the function and the triggers of a table match its declarations, after these have followed its renames. What
-- matches already takes no lock on the table. A disabled trigger is enabled again, except within_ddl: ALTER TABLE … DISABLE
-- TRIGGER must not undo itself. The caller has called begin_declaring().
--
-- What ends a gap in which writes left nothing invalidates the types, as does what gives a name another meaning for whoever reads:
-- docs/protocol.md#capture
create function cache_invalidation.bring_in_line(rel regclass, within_ddl boolean default false, only_declared boolean default false) returns void language plpgsql
set search_path = pg_catalog, pg_temp
as $$
-- definitions come from wrong_triggers(): @plpgsql_check_options: security_warnings = false
declare
  w cache_invalidation.watches;
  renamed integer[] := array[]::integer[];
  present bigint;
  wanted bigint;
  function_name name;
  t record;
  captures boolean;
  begins boolean;
  added integer[];
  every_type boolean := not within_ddl and exists (select from cache_invalidation.catalog_differences(array[bring_in_line.rel]::oid[]));
  parent oid;
  parents oid[] := array[]::oid[];
begin
  insert into cache_invalidation.catalog_snapshots (rel, catalog_rows) values (bring_in_line.rel, null);
  -- A restore of the data alone may have added another: the present one is what the function was made for.
  select p.id, p.function, p.written = cache_invalidation.functions_now(p.function, p.id) as is_written into present, function_name, captures
    from cache_invalidation.present_versions(array[bring_in_line.rel]::oid[]) as p order by is_written desc nulls last limit 1;
  update cache_invalidation.versions as v set retired = pg_current_xact_id() where v.rel = bring_in_line.rel and v.retired is null and v.id <> present;
  if not exists (select from pg_class as c where c.oid = rel) then
    perform cache_invalidation.remember(gone, names.name)
      from cache_invalidation.watches as gone cross join lateral (values (gone.declared_as), (gone.known_as)) as names(name) where gone.rel = bring_in_line.rel;
    -- what it implied goes with it
    parents := array(
      select c.oid from cache_invalidation.watches as gone cross join unnest(gone.hops) as h join pg_class as c on c.oid = h.parent
      where gone.rel = bring_in_line.rel and gone.implied_by is null);
    delete from cache_invalidation.watches as gone where gone.rel = bring_in_line.rel;
  end if;
  if not exists (select from cache_invalidation.watches as known where known.rel = bring_in_line.rel) then
    if present is not null then
      update cache_invalidation.versions as v set retired = pg_current_xact_id() where v.id = present;
      for t in
        select own.tgname, own.tgrelid::regclass as rel from pg_trigger as own join pg_proc as p on p.oid = own.tgfoid
        where p.pronamespace = 'cache_invalidation'::regnamespace and p.proname = function_name and own.tgparentid = 0
      loop
        execute format('drop trigger %I on %s', t.tgname, t.rel);
      end loop;
      -- within DDL it stays as long as its versions: a dump that is restored in one transaction makes the triggers again
      if not within_ddl and to_regproc(format('cache_invalidation.%I', function_name)) is not null then
        execute format('drop function cache_invalidation.%I()', function_name);
      end if;
    end if;
    foreach parent in array parents loop
      perform cache_invalidation.bring_in_line(parent, within_ddl);
    end loop;
    perform cache_invalidation.keep_catalog_snapshot(array[bring_in_line.rel]::oid[]);
    return;
  end if;

  -- One statement, because two watches may exchange their targets. Only those are looked at whose table or columns are called otherwise by
  -- now. (A child's declaration may take its parent's along.)
  with moved as (
    update cache_invalidation.watches as known
      set target = f.target, columns = f.columns, hops = f.hops, join_clause = f.join_clause, known_as = f.known_as
      from cache_invalidation.watches as before cross join lateral cache_invalidation.follow_renames(before) as f
      where before.id = known.id and known.rel = bring_in_line.rel and f is distinct from before
        and (known.known_as <> known.rel::text or cache_invalidation.followed_hops(before) <> before.hops
          or known.id in (select c.watch_id from cache_invalidation.stale_columns as c where c.version = present))
      returning known.id
  )
  select coalesce(array_agg(moved.id), '{}') into renamed from moved;
  for w in select found.* from cache_invalidation.watches as found where found.id = any (renamed) and found.implied_by is null loop
    raise notice 'the watch of % follows %, it is now: %', w.rel, case when w.foreign_key is null then 'a rename' else 'a rename or its foreign key' end,
      cache_invalidation.declaration(w, w.rel::text);
    if w.foreign_key is not null then
      parents := parents || cache_invalidation.imply(w);
    end if;
  end loop;
  -- after a restore
  update cache_invalidation.watches as known set declared_oid = known.rel, declared_columns = cache_invalidation.number_columns(known)
    where known.rel = bring_in_line.rel and known.declared_oid <> known.rel::oid;

  function_name := coalesce(function_name, cache_invalidation.free_function_name(rel));
  wanted := cache_invalidation.make_version(rel, present, function_name, only_declared);
  added := array(
    select v.watch_id from cache_invalidation.versions as v
    where v.id = wanted and not exists (
      select from cache_invalidation.versions as former
      where former.id = present and former.watch_id = v.watch_id and former.target = v.target
        and former.columns is not distinct from v.columns and former.hops = v.hops and (former.problem is null or v.problem is not null)));
  if not exists (select from pg_class as c where c.oid = rel and c.relkind = 'm') then
    begins := captures is not true and not exists (select from cache_invalidation.epoch as e where e.paused_at is not null);
    every_type := every_type or begins;
    -- Writers that are still open have left nothing, or may have left nothing of an update that concerns a declaration now: one of a
    -- column of which the present function does not know the name, while it does not tell of every update.
    if begins or not exists (select from cache_invalidation.versions as v where v.id = present and (v.columns is null or v.problem is not null)) and exists (
      select from cache_invalidation.versions as v left join unnest(v.reads) as c on c.alias = ''
      where v.id = wanted and (v.columns is null or c.name not in (
        select k.name from cache_invalidation.versions as known cross join unnest(known.reads) as k where known.id = present and k.alias = '')))
    then
      execute format('lock table %s in share row exclusive mode', rel);
    end if;
    if captures is not true or wanted <> present then
      perform cache_invalidation.write_functions(function_name, wanted);
    end if;
    for t in
      select wrong.* from cache_invalidation.wrong_triggers(array[bring_in_line.rel]::oid[]) as wrong
      where wrong.definition is null or wrong.is_missing or not within_ddl
    loop
      if t.definition is null then
        execute format('drop trigger %I on %s', t.name, t.rel);
        continue;
      end if;
      -- It may be disabled, of another kind, or a trigger of somebody else.
      execute format('create or replace trigger %I %s execute function cache_invalidation.%I()', t.name, format(t.definition, t.rel), function_name);
      -- also when session_replication_role is replica
      execute format('alter table %s enable always trigger %I', t.rel, t.name);
    end loop;
  end if;
  perform cache_invalidation.invalidate_types(array(
    select v.target from cache_invalidation.versions as v where v.id = wanted and (every_type or v.watch_id = any (added || renamed)
      or v.watch_id in (select c.watch_id from cache_invalidation.stale_columns as c where c.version = present))));
  perform cache_invalidation.drop_ended_versions();
  delete from cache_invalidation.catalog_snapshots as k where k.rel = bring_in_line.rel and k.catalog_rows is null;
  if not within_ddl or not exists (select from cache_invalidation.wrong_triggers(array[bring_in_line.rel]::oid[])) then
    perform cache_invalidation.keep_catalog_snapshot(array[bring_in_line.rel]::oid[]);
  end if;
  foreach parent in array parents loop
    perform cache_invalidation.bring_in_line(parent, within_ddl);
  end loop;
exception
  when insufficient_privilege then
    -- For refresh(), a table that has another owner by now stops no other.
    if within_ddl or only_declared then
      raise;
    end if;
    raise warning 'the watches of % were not brought in line: %', rel, sqlerrm using hint = 'select * from cache_invalidation.problems() has what helps.';
  when lock_not_available then
    raise exception 'the table % is busy: no lock within %', rel, current_setting('lock_timeout')
      using errcode = 'lock_not_available',
        hint = 'Nothing was changed. Try again at a quieter moment, or set lock_timeout higher; until then readers and writers may wait.';
  when object_in_use then
    raise exception 'the table % has pending trigger events: this transaction has written to it', rel
      using errcode = 'object_in_use', hint = 'Do this before such writes or in another transaction, or first: set constraints all immediate;';
  when unique_violation then
    raise exception 'two watches of % have the same target now that a column is renamed', rel
      using errcode = 'unique_violation', hint = format('First unwatch() one of them: select * from cache_invalidation.watches where rel = %L::regclass;', rel);
end
$$;
