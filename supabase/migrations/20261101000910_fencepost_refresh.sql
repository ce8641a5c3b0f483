-- Fencepost 9/9, part 3: making declarations, functions and triggers follow tables that change.
--
-- The capture functions protect the application's writes by themselves: they widen instead of failing. refresh() keeps them precise.
-- Event triggers call it after each DDL statement, where the installing role may create them (_ddl); otherwise people call it.
-- problems() says when that is needed.

-- Whether an error of check_watch() says that a declaration cannot be served as its table is now, and not that we lack a right or a lock.
create function cache_invalidation.unservable(state text) returns boolean
language sql immutable
return state ~ '^(42|22|0A)' and state <> '42501';

-- Makes one watch match its table as it is now: renamed columns, other types, new partitions, lost triggers. Removes it when the
-- table is gone, and remembers it by name. Without_locks it follows renames and rewrites the functions, but plans no query and touches no trigger, since both
-- wait for tables.
--
-- served  ─ it can no longer be served ─▶ not served: a WARNING, and every write invalidates the whole type
--   ▲                                          │
--   └──────── it can be served again ◀─────────┘
--
-- Within_ddl the first arrow raises instead, which refuses the statement. A dropped column is the exception: on_drop() refuses the
-- statement that drops it. So a DDL statement fails for what it does itself, never for an earlier state.
create function cache_invalidation.refresh_watch(
  w cache_invalidation.watches, within_ddl boolean default false, without_locks boolean default false
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  followed cache_invalidation.watches;
begin
  if not exists (select from pg_catalog.pg_class as c where c.oid = w.rel) then
    perform cache_invalidation.remember(w, w.declared_as);
    perform cache_invalidation.remove_watch(w);
    if pg_catalog.to_regclass(w.declared_as) is not null then
      raise warning 'the watch of % for % went with the table it was declared for; another table is called that now',
        w.declared_as, pg_catalog.quote_literal(w.target)
        using hint = 'To watch that one: ' || cache_invalidation.declaration(w, w.declared_as);
    end if;
    return;
  end if;
  followed := cache_invalidation.follow_renames(w);
  begin
    if followed.id is null then
      raise exception '%', case when w.rel::oid = w.declared_oid then 'a column that it needs was dropped'
          else 'its table comes from a restored dump, and before refresh() was called a column that it needs was renamed or dropped' end
        using errcode = 'undefined_column';
    elsif not without_locks then
      perform cache_invalidation.check_watch(followed);
      followed.served := true;
    end if;
    followed.join_rels := array(select j.rel from cache_invalidation.join_tables(followed.join_clause) as j);
  exception
    when others then
      if not cache_invalidation.unservable(sqlstate) or (within_ddl and w.served and followed.id is not null) then
        raise;
      end if;
      if followed.id is null then
        followed := w;
      end if;
      followed.served := false;
      raise warning 'the watch of % for % invalidates the whole type now: %', w.rel, pg_catalog.quote_literal(w.target), sqlerrm
        using hint = pg_catalog.format('Restore what is missing and call refresh(), or: select cache_invalidation.unwatch(%L, %L); then watch() what the table has become.',
          w.rel, followed.target);
  end;
  followed.row_level := cache_invalidation.needs_row_triggers(followed.rel);
  if followed is distinct from w then
    if exists (
      select from cache_invalidation.watches as other
      where other.rel = followed.rel and other.target = followed.target and other.id <> followed.id)
    then
      raise exception 'the watch of % for % follows a rename to %, which is watched already', w.rel,
        pg_catalog.quote_literal(w.target), pg_catalog.quote_literal(followed.target)
        using errcode = 'unique_violation',
          hint = pg_catalog.format('First: select cache_invalidation.unwatch(%L, %L); then: select cache_invalidation.refresh();',
            w.rel, followed.target);
    end if;
    update cache_invalidation.watches as kept
      set target = followed.target, columns = followed.columns, join_clause = followed.join_clause, join_rels = followed.join_rels,
        row_level = followed.row_level, served = followed.served, column_numbers = followed.column_numbers, declared_oid = followed.declared_oid, declared_columns = followed.declared_columns
      where kept.id = w.id;
  end if;
  if without_locks then
    perform cache_invalidation.write_functions(followed);
  else
    perform cache_invalidation.apply_watch(followed, within_ddl);
  end if;
  if row(followed.target, followed.columns, followed.join_clause) is distinct from row(w.target, w.columns, w.join_clause) then
    raise notice 'the watch of % for % follows a rename, it is now: %',
      w.rel, pg_catalog.quote_literal(w.target), cache_invalidation.declaration(followed, w.rel::text);
  end if;
end
$$;

-- Makes all watches match their tables, and watches the tables that have the name of a watched one that was dropped or renamed;
-- returns how many watches there were. It may be called at any time. A watch that matches takes no lock;
-- one that cannot be served gets a WARNING and stops no other. A migration that changes the engine ends with this call, so that
-- the generated functions are rewritten. Waits for a table at most lock_timeout (3 s when unset).
create function cache_invalidation.refresh() returns integer
language plpgsql
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  declared constant cache_invalidation.watches[] := array(select every_watch from cache_invalidation.watches as every_watch order by every_watch.id);
  w cache_invalidation.watches;
  lost cache_invalidation.dropped_watches;
  previous_timeout constant text := cache_invalidation.limit_waiting();
begin
  -- Columns that changed names with each other may change the targets of two watches with each other, and a table has one
  -- watch for each target: all that change give up the old one before any takes the new one.
  update cache_invalidation.watches as moving set target = moving.id::text
    where (cache_invalidation.follow_renames(moving)).target <> moving.target;
  foreach w in array declared loop
    perform cache_invalidation.refresh_watch(w);
  end loop;
  for lost in select u.* from cache_invalidation.unwatched() as u loop
    begin
      perform cache_invalidation.watch(lost.rel_name::regclass, lost.target, lost.columns, lost.min_interval, lost.join_clause);
    exception
      when others then
        if not cache_invalidation.unservable(sqlstate) then
          raise;
        end if;
        raise warning '% cannot be watched for % as the table of that name was: %', lost.rel_name, pg_catalog.quote_literal(lost.target), sqlerrm
          using hint = pg_catalog.format('watch() what it has become, then: select cache_invalidation.unwatch(name => %L, target => %L);',
            lost.rel_name, lost.target);
    end;
  end loop;
  perform pg_catalog.set_config('lock_timeout', previous_timeout, true);
  return pg_catalog.cardinality(declared);
end
$$;

-- What keeps one watch from being exact or complete, the worst first. severity is problems()'s.
create function cache_invalidation.problems_of(w cache_invalidation.watches) returns table (problem text, remedy text, severity text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  followed cache_invalidation.watches;
  missing text;
  out_of_date boolean;
  refresh_remedy constant text := 'select cache_invalidation.refresh();';
begin
  severity := 'error';
  if not exists (select from pg_catalog.pg_class as c where c.oid = w.rel) then
    problem := pg_catalog.format('the table of watch %s (%s) was dropped', w.id, w.target);
    remedy := refresh_remedy;
    severity := case when pg_catalog.to_regclass(w.declared_as) is null then 'warning' else 'error' end;
    return next;
    return;
  end if;
  select pg_catalog.string_agg(n.rel || ' ' || n.name, ', ') into missing
    from cache_invalidation.wanted_triggers(w) as n
    left join cache_invalidation.present_triggers(w) as p on p.rel = n.rel and p.name = n.name
    where p.always is not true;
  if missing is not null then
    problem := 'triggers are missing or disabled: ' || missing;
    remedy := refresh_remedy;
    return next;
  end if;
  begin
    perform cache_invalidation.check_watch(w);
    out_of_date := exists (
      select from pg_catalog.unnest('{insert,update,delete,truncate}'::text[]) as o(operation)
      where not exists (
        select from pg_catalog.pg_proc as p
        where p.pronamespace = 'cache_invalidation'::regnamespace
          and p.proname = pg_catalog.format('capture_%s_%s', w.id, o.operation)
          and p.prosrc = cache_invalidation.capture_body(w, o.operation)));
    -- gives back the locks on the tables, for which migrations may wait by now
    raise exception using errcode = 'FP001';
  exception
    when sqlstate 'FP001' then
      if out_of_date then
        problem := pg_catalog.format('the capture functions of %s for %s are out of date', w.rel, w.target);
        remedy := refresh_remedy;
        return next;
      end if;
    when lock_not_available or deadlock_detected then
      problem := pg_catalog.format('the watch of %s for %L was not checked: %s', w.rel, w.target, sqlerrm);
      remedy := 'Ask again at a quieter moment.';
      severity := 'warning';
      return next;
      -- problems() waits once
      perform pg_catalog.set_config('lock_timeout', '1ms', true);
    when others then
      problem := pg_catalog.format('writes to %s invalidate the whole type of %s: %s', w.rel, w.target, sqlerrm);
      remedy := 'Rename or restore what is missing and call refresh(), or unwatch() and watch() again: ' || refresh_remedy;
      severity := 'warning';
      return next;
  end;
  select pg_catalog.string_agg(p.rel || ' ' || p.name, ', ') into missing
    from cache_invalidation.present_triggers(w) as p
    where not exists (
      select from cache_invalidation.wanted_triggers(w) as n
      where n.rel = p.rel and n.name = p.name and n.function_name = p.function_name);
  if missing is not null then
    problem := case when cache_invalidation.has_foreign_table_below(w.rel)
        then pg_catalog.format('writes to %s that reach a foreign table fail, for triggers that it must not have: %s', w.rel, missing)
      else 'triggers are left over: ' || missing end;
    remedy := refresh_remedy;
    severity := case when problem like 'triggers%' then 'warning' else 'error' end;
    return next;
  end if;
  return query select s.problem, s.remedy, 'error' from cache_invalidation.swapped(w) as s;
  followed := cache_invalidation.follow_renames(w);
  if followed.id is not null and followed is distinct from w then
    problem := pg_catalog.format('columns of %s were renamed, or restored from a dump, since its watch for %s was last brought in line', w.rel, w.target);
    remedy := refresh_remedy;
    severity := 'warning';
    return next;
  end if;
  if w.row_level <> cache_invalidation.needs_row_triggers(w.rel) then
    problem := pg_catalog.format('%s has become, or is no longer, a partition, an inheritance child or a subscriber''s table', w.rel);
    remedy := refresh_remedy;
    severity := case when w.row_level then 'warning' else 'error' end;
    return next;
  end if;
  return query
    select pg_catalog.format('writes made directly to %s, a child of %s, are not seen', child.inhrelid::regclass, w.rel),
      pg_catalog.format('select cache_invalidation.watch(%L, %L);', child.inhrelid::regclass, w.target), 'error'
    from pg_catalog.pg_inherits as child
    join pg_catalog.pg_class as parent on parent.oid = child.inhparent and parent.relkind = 'r'
    where child.inhparent = w.rel
      and not exists (
        select from cache_invalidation.watches as other where other.rel = child.inhrelid and other.target = w.target);
  if exists (select from pg_catalog.pg_class as c where c.oid = w.rel and c.relpersistence = 'u') then
    problem := pg_catalog.format('%s is unlogged: a crash empties it without firing a trigger', w.rel);
    remedy := pg_catalog.format('alter table %s set logged;', w.rel);
    severity := 'notice';
    return next;
  end if;
end
$$;

-- What keeps a watch from being exact or complete, each with its remedy; no row when all is well. Changes nothing. It waits once for
-- locks, keeps none on watched tables, and lists what it could not read for lack of one. SECURITY DEFINER, so that the worker may call it: it takes no argument
-- and shows no application data.
--
-- severity is `error` where writes may be missed (or fail), `warning` where invalidations are wider or DDL is not followed, and
-- `notice` for what only may come to that.
create function cache_invalidation.problems() returns table (watch_id integer, problem text, remedy text, severity text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  w cache_invalidation.watches;
  missing text;
  previous_timeout constant text := cache_invalidation.limit_waiting();
begin
  for w in select found.* from cache_invalidation.watches as found order by found.id loop
    return query select w.id, p.* from cache_invalidation.problems_of(w) as p;
  end loop;
  watch_id := null;
  severity := 'error';
  return query
    select null::integer, pg_catalog.format('%s is not watched for %L, as the table was that had its name and was dropped', u.rel_name, u.target),
      pg_catalog.format('select cache_invalidation.refresh(); or, if it is not to be watched: select cache_invalidation.unwatch(name => %L, target => %L);',
        u.rel_name, u.target), severity
    from cache_invalidation.unwatched() as u
    where (u.rel_name, u.target) in (select d.rel_name, d.target from cache_invalidation.dropped_watches as d);
  begin
    -- a row that we see is our own or was committed before our snapshot: with a later transaction it is another server's
    if exists (
      select from cache_invalidation.outbox as o
      where o.xid >= pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
        and o.xid is distinct from pg_catalog.pg_current_xact_id_if_assigned())
    then
      problem := 'the outbox holds rows from a restored dump, which no worker can claim';
      remedy := 'truncate cache_invalidation.outbox, cache_invalidation.deferred; select cache_invalidation.invalidate(''*'');';
      return next;
    end if;
  exception
    when lock_not_available or deadlock_detected then
      problem := 'the outbox was not checked: ' || sqlerrm;
      remedy := 'Ask again at a quieter moment.';
      severity := 'warning';
      return next;
  end;
  severity := 'warning';
  select pg_catalog.string_agg(distinct t.tgrelid::regclass::text, ', '), pg_catalog.string_agg(distinct g.function::text, ', ')
    into missing, remedy
    from cache_invalidation.generated_functions() as g
    left join pg_catalog.pg_trigger as t on t.tgfoid = g.function::oid
    where g.watch_id not in (select declared.id from cache_invalidation.watches as declared);
  if remedy is not null then
    problem := pg_catalog.format('there are capture functions without a declaration, as in a copy of the schema alone%s', ', on the tables ' || missing);
    remedy := pg_catalog.format('watch() these tables again, then: drop function %s cascade;', remedy);
    return next;
  end if;
  if not exists (select from cache_invalidation.epoch) then
    problem := 'the epoch is missing, as in a copy of the schema alone';
    remedy := 'select cache_invalidation.new_epoch(); a worker does it when it starts.';
    return next;
  end if;
  select pg_catalog.string_agg(n.name, ', ') filter (where e.evtenabled is null),
      pg_catalog.string_agg(n.name, ', ') filter (where e.evtenabled <> 'A'),
      pg_catalog.string_agg(pg_catalog.format('alter event trigger %I enable always;', n.name), ' ') filter (where e.evtenabled <> 'A')
    into missing, problem, remedy
    from pg_catalog.unnest('{fencepost_ddl,fencepost_drop,fencepost_rewrite}'::text[]) as n(name)
    left join pg_catalog.pg_event_trigger as e on e.evtname = n.name;
  if problem is not null then
    problem := pg_catalog.format('DDL is not seen always, because these event triggers are disabled, or are so under session_replication_role = replica: %s', problem);
    return next;
  end if;
  if missing is not null then
    problem := pg_catalog.format('there are no event triggers (%s), so a renamed or dropped column widens invalidations instead of being followed or refused', missing);
    remedy := 'select cache_invalidation.create_event_triggers(); or, if your role may not, after changing a watched table: select cache_invalidation.refresh();';
    severity := 'notice';
    return next;
  end if;
  perform pg_catalog.set_config('lock_timeout', previous_timeout, true);
end
$$;
