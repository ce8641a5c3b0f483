-- Fencepost: what keeps a watch from being exact or complete. Everything is found by comparing the declarations with the catalog, in a
-- few queries for all watches, which take no lock on any table of the application.

-- Names of a declaration that belong to something else now, each with the two ways to settle it. After a swap (rename a to a_old, b to
-- a; or the same with tables) a watch follows what it was declared for, which is perhaps not what is meant.
create function cache_invalidation.swapped(tables oid[] default null) returns table (watch_id integer, rel regclass, problem text, remedy text) language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with declared as (
    -- w is what somebody declared, a.rel its table or one that it joins
    select w.*::cache_invalidation.watches as w, a.rel, a.target, a.declared_as, a.declared_oid, a.declared_columns,
      cache_invalidation.named(a.declared_as, a.rel) as other_rel
    from cache_invalidation.watches as a join cache_invalidation.watches as w on w.id = coalesce(a.implied_by, a.id) join pg_class as c on c.oid = a.rel
    where tables is null or a.rel = any (tables) or cache_invalidation.named(a.declared_as, a.rel) = any (tables)
  ), columns as (
    select d.w, jsonb_object_agg(h.alias || '.' || followed.attname, n.key) as former_names,
      string_agg(format('%I, which was called %I', followed.attname, n.key), ' and ' order by n.key) filter (where h.place = 1) as what
    from declared as d
    cross join lateral jsonb_each_text(d.declared_columns) as n
    join pg_attribute as followed on followed.attrelid = d.rel and followed.attnum = n.value::smallint and not followed.attisdropped
    join pg_attribute as other on other.attrelid = d.rel and other.attname = n.key and other.attnum > 0 and other.attnum <> followed.attnum
    cross join lateral (
      select known.alias, row_number() over () as place
      from (select '' where d.rel = (d.w).rel union all select j.alias from unnest((d.w).hops) as j where j.parent = d.rel) as known(alias)) as h
    where d.rel::oid = d.declared_oid
    group by d.w
  ), found as (
    select d.w, format(case when d.rel = (d.w).rel then 'the watch of %1$s for %2$L was declared when that was called %3$s, which is another table now'
        else 'the watch of %1$s for %2$L joins %4$s, which was called %3$s; another table is called that now' end,
      (d.w).rel, (d.w).target, d.declared_as, d.rel) as problem,
      cache_invalidation.declaration(moved, case when d.rel = (d.w).rel then d.declared_as else (d.w).known_as end) as instead
    from declared as d
    cross join lateral jsonb_populate_record(d.w, jsonb_build_object('join_clause', cache_invalidation.join_text(array(
      select row(case when h.parent = d.rel then d.other_rel else h.parent end, h.alias, h.parent_columns, h.child_aliases, h.child_columns)::cache_invalidation.hop
      from unnest((d.w).hops) with ordinality as h(parent, alias, parent_columns, child_aliases, child_columns, place) order by h.place)))) as moved
    where d.other_rel <> d.rel
      and not exists (select from cache_invalidation.watches as other where other.rel = d.other_rel and other.target = d.target)
    union all
    select c.w, format('the watch of %s for %L follows the column %s; another column is called that now', (c.w).rel, (c.w).target, c.what),
      cache_invalidation.declaration(cache_invalidation.rename_columns(c.w, c.former_names), (c.w).rel::text)
    from columns as c
  )
  select (f.w).id, (f.w).rel, f.problem, format('To watch the other one instead: select cache_invalidation.unwatch(%L, %L); %s To keep this one: %s',
    (f.w).rel, (f.w).target, f.instead, cache_invalidation.declaration(f.w, (f.w).rel::text))
  from found as f
$$;

-- Where functions, triggers and versions of watched tables (null: all) do not match, each with its severity. refresh() mends all of them.
create function cache_invalidation.mismatches(tables oid[] default null) returns table (rel regclass, problem text, severity text) language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with current as materialized (
    select p.* from cache_invalidation.present_versions(tables) as p
  )
  select w.root, case when min(w.definition) is null then 'triggers are left over: ' else 'triggers are missing or disabled: ' end
    || string_agg(w.rel || ' ' || w.name, ', ' order by w.rel::text, w.name), case when min(w.definition) is null then 'warning' else 'error' end
  from cache_invalidation.wrong_triggers(tables) as w
  group by w.root, w.definition is null
  union all
  select c.rel, format('the capture function of %s is missing or out of date', c.rel), 'error'
  from current as c join pg_class as r on r.oid = c.rel and r.relkind <> 'm'
  where c.written is distinct from cache_invalidation.functions_now(c.function, c.id)
  union all
  select r.oid, format(case when v.id is null then '%s is declared for %s, and nothing captures for it' else '%s is captured for %s, and no longer declared' end,
    string_agg(coalesce(w.target, v.target), ', ' order by coalesce(w.target, v.target)), r.oid::regclass), case when v.id is null then 'error' else 'warning' end
  from cache_invalidation.watches as w
  full join (select present.* from cache_invalidation.versions as present where present.retired is null) as v on v.watch_id = w.id and v.rel = w.rel
  join pg_class as r on r.oid = coalesce(w.rel, v.rel)
  where (w.id is null or v.id is null) and (tables is null or r.oid = any (tables))
  group by r.oid, v.id is null
  union all
  select c.rel, format('%s or its columns were renamed, changed, dropped or restored from a dump since its watches were last brought in line',
    string_agg(distinct c.of, ', ')), 'warning'
  from (
    select c.rel, coalesce(o.oid::regclass, c.rel)::text as of
    from current as c join cache_invalidation.stale_columns as u on u.version = c.id left join pg_class as o on o.oid = u.rel
    union all
    select w.rel, w.rel::text from cache_invalidation.watches as w where (tables is null or w.rel = any (tables)) and w.known_as <> w.rel::text
  ) as c join pg_class as r on r.oid = c.rel
  group by c.rel
  union all
  select w.rel, format('the foreign key by which %s is joined for %s leads elsewhere now', w.rel, w.target), 'error'
  from cache_invalidation.watches as w join pg_class as r on r.oid = w.rel
  where (tables is null or w.rel = any (tables)) and w.foreign_key is not null and cache_invalidation.followed_hops(w) <> w.hops
    -- a rename is no other key
    and not exists (
      select from cache_invalidation.versions as v join cache_invalidation.stale_columns as u on u.version = v.id and u.place = v.place
      where v.watch_id = w.id and v.retired is null)
$$;

-- The tables that bring_in_line() has to look at: where something does not match, and where a declaration can be served no longer, or again.
create function cache_invalidation.out_of_line() returns setof oid language sql stable set search_path = pg_catalog, pg_temp
as $$
  select m.rel::oid from cache_invalidation.mismatches() as m
  union
  select s.rel from cache_invalidation.catalog_differences() as s where s.rel <> 0
  union
  select w.rel::oid from cache_invalidation.watches as w where w.declared_oid <> w.rel or not exists (select from pg_class as c where c.oid = w.rel)
  union
  select v.rel::oid from cache_invalidation.versions as v left join cache_invalidation.watches as w on w.id = v.watch_id
  where v.retired is null and (w.id is null or v.engine <> (select cache_invalidation.engine()) or v.problem is distinct from cache_invalidation.refused_because(w))
$$;

-- What the schema's owner has no right to, of watched and joined tables and those below them, each with the statement that helps.
create function cache_invalidation.missing_rights() returns table (rel regclass, problem text, remedy text) language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with owner as (
    select n.nspowner::regrole as name from pg_namespace as n where n.nspname = 'cache_invalidation'
  ), needed as (
    select t.rel, c.relowner, c.relnamespace as schema
    from cache_invalidation.table_trees(array(select w.rel::oid from cache_invalidation.watches as w)) as t join pg_class as c on c.oid = t.rel
    union
    -- queries name the types of enums
    select u.rel, c.relowner, t.typnamespace
    from cache_invalidation.versions as v cross join lateral unnest(v.reads) as u
    join pg_class as c on c.oid = u.rel join pg_type as t on t.oid = cache_invalidation.base_type(u.type) and t.typtype = 'e'
    where v.retired is null and v.hops <> '{}' and u.alias <> ''
  )
  select distinct n.rel::regclass, r.problem, r.remedy
  from owner as o cross join needed as n cross join lateral (values
    (pg_has_role(o.name, n.relowner, 'usage'), format('%s belongs to %s, and %s may not make its triggers', n.rel::regclass, n.relowner::regrole, o.name),
      format('grant %s to %s;', n.relowner::regrole, o.name)),
    (has_schema_privilege(o.name, n.schema, 'usage'), format('%s may not look up %s, or a type of it, in the schema %s', o.name, n.rel::regclass, n.schema::regnamespace),
      format('grant usage on schema %s to %s;', n.schema::regnamespace, o.name))
  ) as r(is_given, problem, remedy)
  where not r.is_given
$$;

-- What keeps a watch from being exact or complete, each with its remedy: docs/capture.md#what-ends-capture. SECURITY DEFINER, so that the
-- worker may call it: it takes no argument and shows no application data.
create function cache_invalidation.problems() returns table (watch_id integer, problem text, remedy text, severity text) language sql stable security definer
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set quote_all_identifiers = off
as $$
  with refresh(remedy) as (values ('select cache_invalidation.refresh();')), mismatched as materialized (
    select m.* from cache_invalidation.mismatches() as m
  ), found as (
    select 1 as rank, null::integer as watch_id, format('capture has been paused since %s: writes are not captured', e.paused_at) as problem,
      'select cache_invalidation.resume_capture();' as remedy, 'error' as severity
    from cache_invalidation.epoch as e where e.paused_at is not null
    union all
    select 2, w.id, format('the table of watch %s (%s) was dropped', w.id, w.target), r.remedy,
      case when coalesce(cache_invalidation.named(w.declared_as), cache_invalidation.named(w.known_as)) is null then 'warning' else 'error' end
    from cache_invalidation.watches as w, refresh as r
    where not exists (select from pg_class as c where c.oid = w.rel)
    union all
    select 3, (select min(w.id) from cache_invalidation.watches as w where w.rel = m.rel), m.problem, r.remedy, m.severity
    from (
      select known.* from mismatched as known
      union all
      select s.rel, format(case when s.former = '{}' then 'DDL that concerns %s was not followed, at %s'
          else 'triggers, partitions or columns of %s were changed, and nothing followed it: writes may have been missed' end, s.rel, s.at), 'error'
      from cache_invalidation.catalog_differences() as s join pg_class as c on c.oid = s.rel
      where s.former = '{}' or s.rel not in (select known.rel from mismatched as known where known.severity = 'error')
    ) as m, refresh as r
    union all
    select 3, (select min(w.id) from cache_invalidation.watches as w where w.rel = m.rel), m.problem, m.remedy, 'error'
    from cache_invalidation.missing_rights() as m
    union all
    select 4, v.watch_id, format('writes to %s invalidate the whole type of %s: %s', v.rel, v.target, v.problem),
      'Restore what is missing and call refresh(), or unwatch() and watch() again: ' || r.remedy, 'warning'
    from cache_invalidation.versions as v join pg_class as c on c.oid = v.rel and c.relkind <> 'm', refresh as r where v.retired is null and v.problem is not null
    union all
    select 4, v.watch_id, format('writes to %s invalidate the whole type of %s: %s', v.rel, v.target, hidden.message), hidden.remedy, 'warning'
    from cache_invalidation.versions as v cross join lateral cache_invalidation.hidden_joins(v.hops) as hidden
    where v.retired is null and v.problem is null and v.hops <> '{}'
    union all
    select 5, s.watch_id, s.problem, s.remedy, 'error' from cache_invalidation.swapped() as s join pg_class as c on c.oid = s.rel
    union all
    select 6, null, format('%s is not watched for %L, as the table was that had its name and was dropped', u.rel_name, u.target),
      format('%s or, if it is not to be watched: select cache_invalidation.unwatch(name => %L, target => %L);', r.remedy, u.rel_name, u.target), 'error'
    from cache_invalidation.unwatched() as u, refresh as r
    where (u.rel_name, u.target) in (select d.rel_name, d.target from cache_invalidation.dropped_watches as d)
    union all
    select 6, j.id, format('the watch of %s for %L joins a table that was dropped, and writes to the one of that name are not seen', j.rel, j.target), r.remedy, 'error'
    from cache_invalidation.joinable_again() as j, refresh as r
    union all
    select 6, w.id, format('nothing sees when %s is refreshed: the event trigger fencepost_ddl is missing or disabled', w.rel),
      'select cache_invalidation.create_event_triggers();', 'error'
    from cache_invalidation.watches as w join pg_class as c on c.oid = w.rel and c.relkind = 'm'
    where not cache_invalidation.sees_ddl('fencepost_ddl')
    union all
    select 7, w.id, t.message, t.remedy, 'notice'
    from cache_invalidation.watches as w cross join lateral cache_invalidation.trusted_owners(w) as t where w.implied_by is null and w.hops <> '{}'
    union all
    select 7, min(w.id), format('%s is unlogged: a crash empties it without firing a trigger', w.rel), format('alter table %s set logged;', w.rel), 'notice'
    from cache_invalidation.watches as w join pg_class as c on c.oid = w.rel and c.relpersistence = 'u' group by w.rel
    union all
    select 8, min(w.id), format('DETACH CONCURRENTLY of %s from %s has not ended', i.inhrelid::regclass, i.inhparent::regclass),
      format('alter table %s detach partition %s finalize;', i.inhparent::regclass, i.inhrelid::regclass), 'notice'
    from pg_inherits as i join cache_invalidation.watches as w on w.rel = i.inhparent where i.inhdetachpending group by i.inhrelid, i.inhparent
    union all
    -- A row that we see is our own or was committed before our snapshot: with a later transaction it is another server's. Acknowledged
    -- too late, it would take along what a transaction of ours writes under that number.
    select 9, null, 'the outbox holds changes of another server''s transactions, as from a restored dump',
      'truncate cache_invalidation.changes, cache_invalidation.pending; select cache_invalidation.invalidate(''*'');', 'error'
    where exists (
      select from cache_invalidation.changes as c
      where c.xid >= pg_snapshot_xmax(pg_current_snapshot()) and c.xid is distinct from pg_current_xact_id_if_assigned())
    union all
    select 10, null, 'there are capture functions without a declaration, as in a copy of the schema alone'
        || coalesce(', on the tables ' || string_agg(distinct t.tgrelid::regclass::text, ', '), ''),
      format('watch() these tables again, then: drop function %s cascade;', string_agg(distinct p.oid::regprocedure::text, ', ')), 'warning'
    from pg_proc as p left join pg_trigger as t on t.tgfoid = p.oid
    where p.pronamespace = 'cache_invalidation'::regnamespace and p.prorettype = 'trigger'::regtype
      and p.proname not in (select v.function from cache_invalidation.versions as v where v.retired is null or t.oid is null)
    having count(*) > 0
    union all
    select 11, null, 'the epoch is missing, as in a copy of the schema alone', 'select cache_invalidation.new_epoch(); a worker does it when it starts.', 'warning'
    where not exists (select from cache_invalidation.epoch)
    union all
    select 12, null, 'DDL is not seen always, because these event triggers are disabled, or are so under session_replication_role = replica: '
        || string_agg(e.name, ', ' order by e.name),
      string_agg(format('alter event trigger %I enable always;', e.name), ' ' order by e.name) || ' ' || min(r.remedy), 'warning'
    from cache_invalidation.event_triggers() as e, refresh as r where e.state <> 'A'
    having count(*) > 0
    union all
    select 13, null, format('there are no event triggers (%s), so invalidations widen after a change of a watched table, until refresh()', string_agg(n.name, ', ')),
      'select cache_invalidation.create_event_triggers(); or, if your role may not, after changing a watched table: select cache_invalidation.refresh();', 'notice'
    from cache_invalidation.event_triggers() as n where n.state is null
    having count(*) > 0
    union all
    select 14, null, 'event triggers were missing, disabled or changed, and DDL may not have been seen', r.remedy, 'error'
    from refresh as r
    where cache_invalidation.sees_ddl() and exists (select from cache_invalidation.watches)
      and exists (select from cache_invalidation.catalog_differences('{0}') as d where d.former is not null)
  )
  select f.watch_id, f.problem, f.remedy, f.severity from found as f order by f.watch_id nulls last, f.rank
$$;

-- For people who have no worker to ask.
create view cache_invalidation.status as
  select (select count(*) from cache_invalidation.changes) as rows,
    (select c.at from cache_invalidation.changes as c order by c.xid limit 1) as oldest,
    (select count(*) from cache_invalidation.pending) as pending,
    pg_total_relation_size('cache_invalidation.changes') as bytes,
    e.confirmed_at, e.paused_at,
    (select count(*) from cache_invalidation.problems() as p where p.severity <> 'notice') as problems
  from cache_invalidation.epoch as e;
comment on view cache_invalidation.status is 'Fencepost at a glance: what waits, since when, when a worker was last there, and how many problems() there are.';
