-- Fencepost: what capture stands on, remembered. A gap that has closed (a trigger dropped and made again, a partition detached, written
-- and attached again) leaves nothing that is wrong. But it leaves other catalog rows than those that were kept when all was in line.

-- The catalog rows that capture of these tables (null: all) stands on: triggers with their clones, the tree, columns, and the
-- file of a materialized view. Each is another after any change, there and back too. Statements that write rows, VACUUM FULL and CLUSTER of a table, and
-- CREATE INDEX change none of them.
create function cache_invalidation.catalog_snapshot(tables oid[] default null) returns table (rel regclass, catalog_rows cache_invalidation.catalog_row[])
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return query with watched as materialized (
    select p.rel, c.relkind, c.relfilenode
    from cache_invalidation.present_versions(tables) as p join pg_class as c on c.oid = p.rel
  ), found as (
    select f.root as rel, 't'::"char" as kind, f.rel::oid as of, f.oid as object, null::smallint as number, f.row_version
    from cache_invalidation.capture_triggers(tables) as f join watched as w on w.rel = f.root
    union all
    select t.root, 'i', i.inhrelid, i.inhparent, null, i.xmin
    from cache_invalidation.table_trees(array(select w.rel::oid from watched as w)) as t join pg_inherits as i on i.inhparent = t.rel
    join pg_class as below on below.oid = i.inhrelid and below.relpersistence <> 't'
    union all
    select w.rel, 'c', null, a.atttypid, a.attnum, a.xmin from watched as w join pg_attribute as a on a.attrelid = w.rel and a.attnum > 0
    union all
    select w.rel, 'm', null, w.relfilenode, null, null from watched as w where w.relkind = 'm'
    union all
    select 0::regclass, 'e', null, e.oid, null, e.xmin from pg_event_trigger as e
    where e.evtname in (select known.name from cache_invalidation.event_triggers() as known) and coalesce(0 = any (tables), true)
  )
  select f.rel, array_agg(row(f.kind, f.of, f.object, f.number, f.row_version)::cache_invalidation.catalog_row order by f.kind, f.of, f.object, f.number)
  from found as f group by f.rel;
end
$$;

-- The tables (null: all; 0: the event triggers) whose catalog rows are not those that were kept, with both.
create function cache_invalidation.catalog_differences(tables oid[] default null)
returns table (rel regclass, former cache_invalidation.catalog_row[], present cache_invalidation.catalog_row[], at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(f.rel, kept.rel), kept.catalog_rows, f.catalog_rows, kept.at
  from cache_invalidation.catalog_snapshot(tables) as f
  full join (
    select distinct on (k.rel) k.* from cache_invalidation.catalog_snapshots as k
    where k.catalog_rows is not null and (tables is null or k.rel = any (tables)) order by k.rel, k.id desc
  ) as kept on kept.rel = f.rel
  where kept.catalog_rows is distinct from f.catalog_rows
$$;

-- Keeps the catalog rows of these tables as they are now. Waits for nobody, so that DDL can do it.
create function cache_invalidation.keep_catalog_snapshot(tables oid[]) returns void language sql set search_path = pg_catalog, pg_temp
as $$
  delete from cache_invalidation.catalog_snapshots as k
    where k.id in (select former.id from cache_invalidation.catalog_snapshots as former where former.rel = any (tables) for update skip locked);
  insert into cache_invalidation.catalog_snapshots (rel, catalog_rows) select f.rel, f.catalog_rows from cache_invalidation.catalog_snapshot(tables) as f;
$$;
