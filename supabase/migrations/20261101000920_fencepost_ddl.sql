-- Fencepost: event triggers, which make the watches follow each DDL statement. docs/capture.md has what follows from which one.
--
-- Promise: no DDL fails because of Fencepost, and none waits for it longer than half a second. What could not be done is a warning, and
-- stands in problems() until refresh(). Only a superuser, or Supabase's role postgres, may create event triggers; all else works without.

-- The present versions that read one of these tables, one above or below it (partitions and children follow its columns, or have just been
-- attached), or join one.
create function cache_invalidation.concerned_versions(tables oid[]) returns setof cache_invalidation.versions language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  with recursive above(rel) as (
    select unnest(tables)
    union
    select i.inhparent from above join pg_inherits as i on i.inhrelid = above.rel
  ), related as (
    select array(select t.rel from cache_invalidation.table_trees(tables) as t union select a.rel from above as a) as rels
  )
  select v.* from cache_invalidation.versions as v, related as r
  where v.retired is null and (v.rel = any (r.rels) or cardinality(v.hops) > 0 and exists (select from unnest(v.hops) as h where h.parent = any (r.rels)));
end;

-- Remembers that the watches of these tables (null: all) could not follow a DDL statement, and invalidates their types.
create function cache_invalidation.remember_unfollowed(tables oid[] default null) returns void language sql set search_path = pg_catalog, pg_temp
as $$
  insert into cache_invalidation.catalog_snapshots (rel, catalog_rows)
    select distinct w.rel, '{}'::cache_invalidation.catalog_row[] from cache_invalidation.watches as w where tables is null or w.rel = any (tables);
  select cache_invalidation.invalidate_types(array(select w.target from cache_invalidation.watches as w where tables is null or w.rel = any (tables)));
$$;

-- Those of these tables whose catalog rows say, at the end of a DDL statement, that a gap has ended or that rows came or went. What is new
-- counts where it has rows, what is gone counts always: its rows are not there to be asked for. Triggers count once they are as they must
-- be, and columns not where the statement has changed them, which is told by other means, but for another type: not each rewrites the
-- table, and values that are no text may read otherwise. (A dropped column has the type 0. Within a savepoint they count.)
create function cache_invalidation.ended_gaps(tables oid[]) returns setof oid language sql stable set search_path = pg_catalog, pg_temp
as $$
  select s.rel from cache_invalidation.catalog_differences(tables) as s
  where coalesce(s.former, '{}') = '{}'
    or exists (
      select from (select f.* from unnest(s.former) as f except select p.* from unnest(s.present) as p) as lost
      where case lost.kind
        when 'c' then not exists (
          select from unnest(s.present) as p
          where p.kind = 'c' and p.number = lost.number and p.row_version = pg_current_xact_id()::xid and (p.object in (lost.object, 0)
            or 2 = (select count(*) from pg_type as t where t.oid in (p.object, lost.object) and t.typcategory = 'S')))
        when 't' then not exists (select from cache_invalidation.wrong_triggers(array[s.rel]::oid[]) as w where not w.is_missing and w.definition is not null)
        else true end)
    or exists (
      select from unnest(s.present) as p join pg_class as c on c.oid = p.rel
      where p.kind = 'i' and p.rel not in (select f.rel from unnest(s.former) as f where f.kind = 'i') and (c.relkind = 'f' or pg_relation_size(c.oid) > 0))
$$;

-- Brings watched tables in line within a DDL statement. While this waits for a lock, readers of the statement's own table wait behind the
-- statement. So all tables share half a second, or the session's lock_timeout where that is shorter. A wait ends before
-- statement_timeout or transaction_timeout fails it, and before Postgres looks for a deadlock. It ends at once while another session waits
-- for this one: that session may hold the lock that we want, and would be the one to fail.
create function cache_invalidation.bring_in_line_within_ddl(tables oid[]) returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  changed regclass;
  deadline constant timestamptz := clock_timestamp() + case
    when tables = '{}' or exists (select from pg_locks as l where not l.granted and pg_backend_pid() = any (pg_blocking_pids(l.pid))) then interval '0'
    else least(interval '500 ms', current_setting('deadlock_timeout')::interval / 2,
      (statement_timestamp() + nullif(current_setting('statement_timeout')::interval, interval '0') - clock_timestamp()) / 2,
      -- of Postgres 17 and later
      (transaction_timestamp() + nullif(current_setting('transaction_timeout', true)::interval, interval '0') - clock_timestamp()) / 2)
  end;
  previous_timeout constant text := current_setting('lock_timeout');
begin
  foreach changed in array tables loop
    begin
      perform set_config('lock_timeout', format('%s ms', ceil(1000 * extract(epoch from
        -- 0 is no limit; the least limit there is comes last
        greatest(least(nullif(previous_timeout::interval, interval '0'), deadline - clock_timestamp()), interval '1 ms')))), true);
      perform cache_invalidation.begin_declaring();
      perform cache_invalidation.bring_in_line(changed, within_ddl => true);
    exception
      when others then
        perform cache_invalidation.remember_unfollowed(array[changed]::oid[]);
        raise warning 'the watches of % were not brought in line: %', changed, sqlerrm using hint = 'As the owner of both: select cache_invalidation.refresh();';
    end;
  end loop;
  perform set_config('lock_timeout', previous_timeout, true);
end
$$;

-- What all three event triggers run. Few statements concern a watch; all others end it early.
create function cache_invalidation.follow_ddl() returns event_trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
declare
  touched oid[];
  gone oid[];
  concerned oid[];
  unlike oid[];
  told record;
  -- the tables whose triggers may have been dropped or disabled
  bared oid[];
begin
  -- our own DDL, or nothing is declared
  if exists (select from cache_invalidation.catalog_snapshots as k where k.catalog_rows is null)
    or not exists (select from cache_invalidation.watches) and not exists (select from cache_invalidation.dropped_watches)
  then
    return;
  elsif tg_event = 'table_rewrite' then
    -- The rows may get other values, without a write. (Of a partitioned table this is called for each partition.)
    perform cache_invalidation.invalidate_types(array(
      select v.target from cache_invalidation.concerned_versions(array[pg_event_trigger_table_rewrite_oid()]) as v));
    return;
  elsif tg_event = 'sql_drop' then
    -- CASCADE can drop a table or a column together with nearly anything (a function, a collation, an access method)
    touched := array(
      select distinct d.objid from pg_event_trigger_dropped_objects() as d
      where d.classid = 'pg_class'::regclass and d.schema_name is distinct from 'cache_invalidation' and not d.is_temporary
      union
      select to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])) from pg_event_trigger_dropped_objects() as d where d.object_type = 'default value');
    gone := array(select d.objid from pg_event_trigger_dropped_objects() as d where d.classid = 'pg_class'::regclass and d.objsubid = 0);
    -- The rows of a dropped table went without a write, and the values of a dropped column, whose name another may get.
    perform cache_invalidation.invalidate_types(array(
      select v.target from cache_invalidation.versions as v
      where v.retired is null and (v.rel = any (gone)
        or v.columns is null and v.rel in (select d.objid from pg_event_trigger_dropped_objects() as d where d.classid = 'pg_class'::regclass and d.objsubid <> 0))));
    bared := array(
      select v.rel::oid from cache_invalidation.versions as v join pg_event_trigger_dropped_objects() as d
        on d.classid = 'pg_trigger'::regclass and starts_with(d.address_names[3], 'fencepost_' || substr(v.function, 9)) where v.retired is null);
    -- A dropped partition is no longer known as one, but the clones of our triggers went with it.
    touched := touched || case when touched <> '{}' then bared end;
    -- also by the name that they had last
    perform cache_invalidation.remember(lost, d.object_identity)
      from pg_event_trigger_dropped_objects() as d join cache_invalidation.watches as lost on lost.rel = d.objid
      where d.classid = 'pg_class'::regclass and d.objsubid = 0;
  else
    touched := array(
      with commands as materialized (
        select c.classid, c.objid from pg_event_trigger_ddl_commands() as c
        where c.schema_name is distinct from 'cache_invalidation' and c.schema_name is distinct from 'pg_temp'
      )
      select coalesce(f.conrelid, c.objid) from commands as c left join pg_constraint as f on f.oid = c.objid and c.classid = 'pg_constraint'::regclass
      where c.classid in ('pg_class'::regclass, 'pg_constraint'::regclass)
      union
      -- what types, schemas, extensions and rights on columns have changed, or was detached; only for these are all columns compared
      select v.rel from cache_invalidation.versions as v
      where v.retired is null
        and (tg_tag !~ '(TABLE|VIEW|INDEX)'
          or exists (select from commands as c join pg_class as p on p.oid = c.objid and p.relkind = 'p' and c.classid = 'pg_class'::regclass))
        and (v.problem is not null or v.id in (select c.version from cache_invalidation.stale_columns as c)
          or v.rel in (
            select s.rel from cache_invalidation.catalog_differences() as s
            where array(select f from unnest(s.former) as f where f.kind = 'c') <> array(select p from unnest(s.present) as p where p.kind = 'c')))
      union
      select w.rel from cache_invalidation.watches as w where tg_tag !~ '(TABLE|VIEW|INDEX)' and w.known_as <> w.rel::text
      union
      -- the parents that a table no longer inherits from
      select v.rel from commands as c
        join pg_trigger as t on t.tgrelid = c.objid and c.classid = 'pg_class'::regclass
        join pg_proc as p on p.oid = t.tgfoid and p.pronamespace = 'cache_invalidation'::regnamespace
        join cache_invalidation.versions as v on v.function = p.proname and v.retired is null);
    -- a column that is renamed, though no key is made of it: its name may go to another (with an attribute of a type, those of its tables)
    perform cache_invalidation.invalidate_types(array(
      select v.target from pg_event_trigger_ddl_commands() as c join pg_class as own on own.oid = c.objid
      cross join lateral cache_invalidation.table_trees(array(
        select named.oid from pg_class as named where named.oid = own.oid or named.reloftype = nullif(own.reltype, 0))) as t
      join cache_invalidation.versions as v on v.rel = t.rel
      where c.classid = 'pg_class'::regclass and c.objsubid <> 0 and v.retired is null and v.columns is null));
    if tg_tag = 'REFRESH MATERIALIZED VIEW' then
      perform cache_invalidation.invalidate_types(array(select w.target from cache_invalidation.watches as w where w.rel = any (touched)));
      perform cache_invalidation.keep_catalog_snapshot(touched);
      return;
    end if;
  end if;
  concerned := array(select v.rel::oid from cache_invalidation.concerned_versions(touched) as v);
  bared := coalesce(bared, array(select c.rel from unnest(concerned) as c(rel) where c.rel = any (touched)));
  -- most statements: what follows looks at every watch
  if concerned = '{}' and bared = '{}' and tg_tag !~ '^ALTER (SCHEMA|EXTENSION)' and not exists (
    select from unnest(touched) as t(rel), lateral (
      select w.declared_as as name from cache_invalidation.watches as w union all select d.rel_name from cache_invalidation.dropped_watches as d) as known
    where known.name = t.rel::regclass::text) and not exists (select from cache_invalidation.joinable_again())
  then
    return;
  end if;
  perform cache_invalidation.invalidate_types(array(
    select v.target from cache_invalidation.versions as v where v.retired is null and v.rel in (select cache_invalidation.ended_gaps(concerned))));
  unlike := array(
    select m.rel::oid from cache_invalidation.mismatches(concerned) as m
    union
    select s.rel from cache_invalidation.catalog_differences(concerned) as s where s.former = '{}'
    union
    -- a dropped table; and what has come back may serve a declaration again
    select v.rel from cache_invalidation.concerned_versions(touched) as v where v.rel = any (gone) or v.problem is not null);
  perform cache_invalidation.bring_in_line_within_ddl(unlike);
  perform cache_invalidation.keep_catalog_snapshot(array(select s.rel::oid from cache_invalidation.catalog_differences(concerned) as s where s.rel <> all (unlike)));
  for told in
    -- left so, because whoever did it may have meant it
    select m.problem, 'To capture again: select cache_invalidation.refresh();' as remedy
    from cache_invalidation.mismatches(bared) as m where m.problem like 'triggers are missing%'
    union all
    select s.problem, s.remedy from cache_invalidation.swapped(case when tg_tag !~ '^ALTER (SCHEMA|EXTENSION)' then touched end) as s
    union all
    select format('%s is not watched for %L, as the table was that had its name and was dropped', u.rel_name, u.target),
      'To watch it: select cache_invalidation.refresh();'
    from cache_invalidation.unwatched() as u join cache_invalidation.dropped_watches as d using (rel_name, target)
    where cache_invalidation.named(u.rel_name) = any (touched) or tg_event = 'sql_drop' and touched <> '{}' or tg_tag ~ '^ALTER (SCHEMA|EXTENSION)'
    union all
    select format('the watch of %s for %L joined a table that was dropped; another has its name', j.rel, j.target), 'To join it: select cache_invalidation.refresh();'
    from cache_invalidation.joinable_again() as j
  loop
    raise warning '%', told.problem using hint = told.remedy;
  end loop;
exception
  when others then
    raise warning 'Fencepost could not follow this statement: %', sqlerrm
      using hint = 'select cache_invalidation.refresh(); select cache_invalidation.invalidate(''*'');';
    begin
      perform cache_invalidation.remember_unfollowed();
    exception
      -- no DDL fails because of Fencepost
      when others then null;
    end;
end
$$;

-- Creates the event triggers that are missing, as after a restore by a role that may not, and has all of them fire always. It never
-- fails for want of a right.
create function cache_invalidation.create_event_triggers() returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- the definitions are those of event_triggers(): @plpgsql_check_options: security_warnings = false
declare
  saw_ddl constant boolean := cache_invalidation.sees_ddl() and not exists (select from cache_invalidation.catalog_differences('{0}'));
  e record;
begin
  for e in select known.* from cache_invalidation.event_triggers() as known where known.state is null loop
    execute format('drop event trigger if exists %I', e.name);
    execute format('create event trigger %I %s', e.name, e.definition);
  end loop;
  -- a block of its own: a role that may create event triggers but not do this can still use them
  begin
    for e in select known.name from cache_invalidation.event_triggers() as known where known.state <> 'A' loop
      execute format('alter event trigger %I enable always', e.name);
    end loop;
  exception
    when insufficient_privilege then
      raise notice 'DDL under session_replication_role = replica is not seen: % may not enable event triggers for it', current_user
        using hint = 'select * from cache_invalidation.problems() has the statements, for a superuser.';
  end;
  -- as in refresh(), which sees no sign of it any more
  if not saw_ddl then
    perform cache_invalidation.invalidate_types(array(select w.target from cache_invalidation.watches as w));
    perform cache_invalidation.keep_catalog_snapshot('{0}');
  end if;
exception
  when insufficient_privilege then
    raise notice 'Fencepost works without event triggers, which % may not create', current_user
      using detail = 'After a watched column is renamed or dropped, writes succeed but invalidate its whole type until refresh() is called.',
        hint = 'After changing a watched table: select cache_invalidation.refresh();';
end
$$;

select cache_invalidation.create_event_triggers();
