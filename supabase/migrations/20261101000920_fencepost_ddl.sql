-- Fencepost 9/9, part 4: event triggers, which make the watches follow each DDL statement.
--
--   ALTER TABLE, ALTER TYPE, …   a renamed column is followed, with a warning when another takes its name; what cannot be served any
--                                more (a column's new type has no canonical text) is refused with a hint
--   CREATE TABLE, ATTACH         a new partition gets its TRUNCATE trigger
--   ALTER … that rewrites rows   invalidates the type: `alter column … type … using` changes values and fires no trigger
--   DROP TABLE                   its watches are removed; everything read from it or from a partition is invalidated
--   DROP COLUMN, DROP FUNCTION … refused with a hint when a watch needs the column or the function, also with CASCADE
--
-- They fire under session_replication_role = replica too, as the triggers of the tables do. Only a superuser, or Supabase's role
-- postgres, may create event triggers. Everything else works without them: see _refresh.

-- A database may have hundreds of watches and its migrations thousands of statements: on_ddl and on_drop first find the few
-- watches that a statement can concern, by one scan of watches, and cost the others nothing.

-- These tables, the partitions and children below them (which follow their columns, or have just been attached), and the
-- tables above them.
create function cache_invalidation.related_tables(tables oid[]) returns regclass[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive below(rel) as (
    select pg_catalog.unnest(tables)
    union
    select i.inhrelid from below join pg_catalog.pg_inherits as i on i.inhparent = below.rel
  ), above(rel) as (
    select pg_catalog.unnest(tables)
    union
    select i.inhparent from above join pg_catalog.pg_inherits as i on i.inhrelid = above.rel
  )
  select array(select rel from below union select rel from above)::regclass[]
$$;

-- The watches that read one of these tables, themselves or by their join; every_join adds all that have one, because its text may
-- also name types, functions and schemas.
create function cache_invalidation.concerned_watches(tables regclass[], every_join boolean) returns setof cache_invalidation.watches
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select w.* from cache_invalidation.watches as w
  where w.rel = any (tables)
    or w.join_rels && tables
    or (every_join and w.join_clause is not null)
    -- It has just been detached from a parent that nobody watches: the command names the parent alone. (This is
    -- needs_row_triggers() again, because calling it for each watch costs more than all the rest.)
    or (w.row_level
      and not exists (select from pg_catalog.pg_inherits as i where i.inhrelid = w.rel)
      and not exists (select from pg_catalog.pg_class as c where c.oid = w.rel and c.relkind = 'p')
      and not exists (select from pg_catalog.pg_subscription_rel as s where s.srrelid = w.rel))
  order by w.id
$$;

-- Refreshes one watch within a DDL statement. Refuses the statement when the watch can no longer be served. Only warns when Fencepost
-- itself lacks a right or a lock, does not know after a restore which column is which, or may not rewrite a function because an
-- extension's script is running.
--
-- The statement holds its own locks while this waits for others (a joined table), and the readers of its table wait behind it. So all
-- watches of a statement share one deadline. After that, a lock is taken at once or not at all; without it the functions follow
-- the renames, and the rest is left to refresh().
create function cache_invalidation.refresh_within_ddl(
  w cache_invalidation.watches, deadline timestamptz, without_locks boolean default false
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  reason text;
  previous_timeout constant text := pg_catalog.current_setting('lock_timeout');
begin
  perform pg_catalog.set_config('lock_timeout', pg_catalog.format('%s ms', pg_catalog.ceil(1000 * extract(epoch from
    -- 0 is no limit; the least limit there is comes last
    greatest(least(nullif(previous_timeout::interval, interval '0'), deadline - pg_catalog.clock_timestamp()), interval '1 ms')))), true);
  perform cache_invalidation.refresh_watch(w, within_ddl => true, without_locks => without_locks);
  perform pg_catalog.set_config('lock_timeout', previous_timeout, true);
exception
  when others then
    reason := sqlerrm;
    if cache_invalidation.unservable(sqlstate) then
      raise exception 'the watch of % for % needs what this statement takes away: %', w.rel, pg_catalog.quote_literal(w.target), reason
        using errcode = sqlstate,
          hint = pg_catalog.format('First: select cache_invalidation.unwatch(%L, %L); then watch() what the table has become. (If it was taken away before: select cache_invalidation.refresh();)', w.rel, w.target);
    end if;
    if cache_invalidation.has_foreign_table_below(w.rel) and exists (
      select from cache_invalidation.present_triggers(w) as p where p.function_name like 'reduce%')
    then
      raise exception 'the watch of % for % would make writes fail that reach the foreign table: %', w.rel, pg_catalog.quote_literal(w.target), reason
        using errcode = sqlstate, hint = 'Its triggers have to change with this statement: try again at a quieter moment, as the owner of both.';
    end if;
    -- 55000: within an extension's script
    raise warning 'the watch of % for % %: %', w.rel, w.target,
      case when sqlstate = '55000' then 'invalidates the whole type now' else 'was not brought in line' end, reason
      using hint = 'As the owner of both: select cache_invalidation.refresh();';
    if not without_locks and sqlstate in ('55P03', '40P01') then
      perform cache_invalidation.refresh_within_ddl(w, deadline, without_locks => true);
    end if;
end
$$;

-- Until when the watches of a statement that begins now may wait for locks. Readers and writers of its tables may wait as long.
create function cache_invalidation.waiting_deadline() returns timestamptz
language sql volatile
return pg_catalog.clock_timestamp() + interval '500 ms';

create function cache_invalidation.on_ddl() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  w cache_invalidation.watches;
  swap record;
  lost record;
  every_join constant boolean := tg_tag in (
    'ALTER TYPE', 'ALTER DOMAIN', 'ALTER SCHEMA', 'ALTER EXTENSION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER OPERATOR', 'ALTER COLLATION');
  deadline constant timestamptz := cache_invalidation.waiting_deadline();
  touched oid[];
  related regclass[];
begin
  -- our own CREATE TRIGGER and ALTER TABLE … ENABLE ALWAYS TRIGGER
  if pg_catalog.current_setting('cache_invalidation.refreshing', true) = 'on'
    or not exists (select from cache_invalidation.watches) and not exists (select from cache_invalidation.dropped_watches)
  then
    return;
  end if;
  with commands as materialized (
    select c.classid, c.objid from pg_catalog.pg_event_trigger_ddl_commands() as c
    where c.schema_name is distinct from 'cache_invalidation' and c.schema_name is distinct from 'pg_temp'
  )
  select pg_catalog.array_agg(found.rel) into touched
    from (
      select c.objid as rel from commands as c where c.classid = 'pg_class'::regclass
      union
      -- the tables that have a column of a changed type
      select d.objid from commands as c
        join pg_catalog.pg_depend as d on d.refclassid = c.classid and d.refobjid = c.objid and d.classid = 'pg_class'::regclass
        where c.classid = 'pg_type'::regclass
      union
      -- the tables made of a changed type (create table … of), which is named by its pg_class row
      select t.oid from commands as c
        join pg_catalog.pg_type as of_type on of_type.typrelid = c.objid
        join pg_catalog.pg_class as t on t.reloftype = of_type.oid
        where c.classid = 'pg_class'::regclass and tg_tag = 'ALTER TYPE'
      union
      -- the tables of a changed schema
      select t.oid from commands as c
        join pg_catalog.pg_class as t on t.relnamespace = c.objid and t.relkind in ('r', 'p')
        where c.classid = 'pg_namespace'::regclass
    ) as found;
  if touched is null and not every_join then
    return;
  end if;
  related := cache_invalidation.related_tables(touched);
  for w in select found.* from cache_invalidation.concerned_watches(related, every_join) as found loop
    perform cache_invalidation.refresh_within_ddl(w, deadline);
  end loop;
  for w in
    select found.* from cache_invalidation.watches as found
    where found.rel = any (related)
      or found.declared_as = any (array(select t.rel::regclass::text from pg_catalog.unnest(touched) as t(rel)))
    order by found.id
  loop
    for swap in select s.* from cache_invalidation.swapped(w) as s loop
      raise warning '%', swap.problem using hint = swap.remedy;
    end loop;
  end loop;
  for lost in
    select d.rel_name, d.target from cache_invalidation.dropped_watches as d
    where d.rel_name = any (array(select t.rel::regclass::text from pg_catalog.unnest(touched) as t(rel)))
      and not exists (select from cache_invalidation.watches as known where known.rel::text = d.rel_name and known.target = d.target)
  loop
    raise warning '% is not watched for %, as the table was that had its name and was dropped', lost.rel_name, pg_catalog.quote_literal(lost.target)
      using hint = 'To watch it: select cache_invalidation.refresh();';
  end loop;
end
$$;

-- What the watches of dropped tables named, and those above a dropped partition: its rows went without a write. It is no longer known
-- as a partition of anything, but the clones of our triggers went with it.
create function cache_invalidation.invalidate_dropped() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform cache_invalidation.invalidate(types.target)
    from (
      select distinct cache_invalidation.type_wildcard(w.target) as target
      from cache_invalidation.watches as w
      where w.rel in (
          select d.objid from pg_catalog.pg_event_trigger_dropped_objects() as d
          where d.classid = 'pg_class'::regclass and d.objsubid = 0)
        or w.id::text in (
          select pg_catalog.substring(d.address_names[3], '^fencepost_(\d+)_') from pg_catalog.pg_event_trigger_dropped_objects() as d
          where d.classid = 'pg_trigger'::regclass)
    ) as types;
exception
  -- a DROP never fails because of the cache
  when others then
    raise warning 'what was read from the dropped tables was not invalidated: %', sqlerrm
      using hint = 'select cache_invalidation.invalidate(''*'');';
end
$$;

-- CASCADE can drop a table or a column together with nearly anything (a function, a collation, an access method), so this is called
-- whatever is dropped. The text of a capture function also depends on the table's constraints: see parent_covers() and
-- capture_queries().
create function cache_invalidation.on_drop() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  w cache_invalidation.watches;
  needed text;
  touched regclass[];
  every_join boolean;
  deadline constant timestamptz := cache_invalidation.waiting_deadline();
begin
  if pg_catalog.current_setting('cache_invalidation.refreshing', true) = 'on' then
    return;
  end if;
  -- a table's row type goes with it
  select pg_catalog.array_agg(coalesce(constrained.oid, d.objid)) filter (where d.classid = 'pg_class'::regclass or constrained.oid is not null),
      pg_catalog.bool_or(d.classid in ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_operator'::regclass, 'pg_collation'::regclass))
        and tg_tag <> 'DROP TABLE' and tg_tag not like 'ALTER %'
    into touched, every_join
    from pg_catalog.pg_event_trigger_dropped_objects() as d
    -- not to_regclass(), which fails for want of a right on the schema
    left join (pg_catalog.pg_class as constrained join pg_catalog.pg_namespace as n on n.oid = constrained.relnamespace)
      on d.object_type = 'table constraint' and n.nspname = d.address_names[1] and constrained.relname = d.address_names[2]
    where d.schema_name is distinct from 'cache_invalidation' and not d.is_temporary;
  if touched is null and every_join is not true then
    return;
  end if;
  perform cache_invalidation.invalidate_dropped();
  -- refresh_watch() remembers them by the names that they were declared with
  perform cache_invalidation.remember(lost, d.object_identity)
    from pg_catalog.pg_event_trigger_dropped_objects() as d
    join cache_invalidation.watches as lost on lost.rel = d.objid
    where d.classid = 'pg_class'::regclass and d.objsubid = 0;
  for w in select found.* from cache_invalidation.concerned_watches(touched, every_join) as found loop
    select named.key into needed
      from pg_catalog.pg_event_trigger_dropped_objects() as d
      join pg_catalog.jsonb_each_text(w.column_numbers) as named on named.value::integer = d.objsubid
      where d.classid = 'pg_class'::regclass and d.objid = w.rel and w.rel::oid = w.declared_oid
        and (cache_invalidation.follow_renames(w)).id is null;
    if found then
      raise exception 'the watch of % for % needs what this statement takes away: the column %', w.rel, pg_catalog.quote_literal(w.target), needed
        using errcode = 'undefined_column',
          hint = pg_catalog.format('First: select cache_invalidation.unwatch(%L, %L); then watch() what the table has become.', w.rel, w.target);
    end if;
    -- after ALTER comes on_ddl()
    if tg_tag not like 'ALTER %' then
      -- removes the watch of a dropped table
      perform cache_invalidation.refresh_within_ddl(w, deadline);
    end if;
  end loop;
end
$$;

-- The rows that a statement is about to rewrite may get other values, without a write. (Of a partitioned table it is called
-- for each partition.)
create function cache_invalidation.on_rewrite() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  related constant regclass[] := cache_invalidation.related_tables(array[pg_catalog.pg_event_trigger_table_rewrite_oid()]);
begin
  perform cache_invalidation.invalidate(types.target)
    from (
      select distinct cache_invalidation.type_wildcard(w.target) as target
      from cache_invalidation.watches as w
      where w.rel = any (related) or w.join_rels && related
    ) as types;
end
$$;

-- Creates the event triggers that are missing, as after a restore by a role that may not, and has all of them fire always. It never
-- fails for want of a right.
create function cache_invalidation.create_event_triggers() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  present constant name[] := array(select e.evtname from pg_catalog.pg_event_trigger as e);
begin
  if not 'fencepost_ddl' = any (present) then
    create event trigger fencepost_ddl on ddl_command_end
      when tag in (
        'ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'CREATE FOREIGN TABLE',
        -- which rename tables, or their columns, as well
        'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE', 'ALTER INDEX',
        'ALTER TYPE', 'ALTER DOMAIN', 'ALTER SCHEMA', 'ALTER EXTENSION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER OPERATOR', 'ALTER COLLATION')
      execute function cache_invalidation.on_ddl();
  end if;
  if not 'fencepost_drop' = any (present) then
    create event trigger fencepost_drop on sql_drop execute function cache_invalidation.on_drop();
  end if;
  if not 'fencepost_rewrite' = any (present) then
    create event trigger fencepost_rewrite on table_rewrite execute function cache_invalidation.on_rewrite();
  end if;
  -- a block of its own: a role that may create event triggers but not do this can still use them
  begin
    alter event trigger fencepost_ddl enable always;
    alter event trigger fencepost_drop enable always;
    alter event trigger fencepost_rewrite enable always;
  exception
    when insufficient_privilege then
      raise notice 'DDL under session_replication_role = replica is not seen: % may not enable event triggers for it', current_user
        using hint = 'select * from cache_invalidation.problems() has the statements, for a superuser.';
  end;
exception
  when insufficient_privilege then
    raise notice 'Fencepost works without event triggers, which % may not create', current_user
      using detail = 'After a watched column is renamed or dropped, writes succeed but invalidate its whole type until refresh() is called.',
        hint = 'After changing a watched table: select cache_invalidation.refresh();';
end
$$;

select cache_invalidation.create_event_triggers();
