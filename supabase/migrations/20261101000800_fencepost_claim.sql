-- Fencepost: the worker's side. Only the leader (the session that holds LEADER_LOCK) calls these.
--
-- Promise: claim() hands out whole transactions, each committed change at least once. Why, and why not by a cursor: docs/protocol.md#outbox-and-claims

-- What a worker keeps between two claims: A, B and x of docs/protocol.md. It treats the value as opaque text.
create type cache_invalidation.claim_position as (seen pg_snapshot, run pg_snapshot, xid xid8);

-- Runs a declaration's query over the changes of these transactions: at most sample of them (null: all), for at most most targets. It
-- reads joined tables as the schema's owner, and waits for none of them. For render() alone.
create function cache_invalidation.run_target_query(xids xid8[], version bigint, sample integer, most integer, place smallint)
returns setof cache_invalidation.outbox_target language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set row_security = off set lock_timeout = '10ms' set jit = off set datestyle = 'ISO, YMD'
as $$
begin
  return query execute format('select * from cache_invalidation.%I($1, $2, $3, $4, $5)', cache_invalidation.target_function(version))
    using xids, version, sample, most, place;
end
$$;

-- The targets of these transactions, each once for each watch; watch_id is null when by hand. What cannot be told becomes a wildcard, and
-- its error an SQLSTATE: docs/protocol.md#capture. A change also gives the types of what was declared after its version, because its
-- writer may have committed after that declaration.
create function cache_invalidation.render(xids xid8[])
returns table (written_at timestamptz, watch_id integer, op "char", error text, target text) language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off set enable_seqscan = off set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  part record;
  most constant integer := case when cardinality(xids) = 1 then 1001 end;
  sample integer;
  found_targets cache_invalidation.outbox_target[];
begin
  for part in
    select c.*, v.id, v.place, v.rel, v.watch_id, v.target, v.hops, v.made, v.retired, v.query is not null
      and not exists (select from cache_invalidation.stale_columns as stale where stale.version = v.id and stale.place = v.place) as is_sound
    from (
      select c.version, count(*) as number, min(c.at) as at, min(left(c.change, 1)) as op,
        max(split_part(c.change, E'\x01', 2)) filter (where left(c.change, 1) = 'e') as error,
        max(split_part(c.change, E'\x01', 3)) filter (where left(c.change, 1) = 'e') as failed_op, bool_or(left(c.change, 1) in ('t', 'e')) as has_no_key
      from unnest(xids) as x(xid) cross join lateral (select o.* from cache_invalidation.changes as o where o.xid = x.xid offset 0) as c
      group by c.version
    ) as c
    left join cache_invalidation.versions as v on v.id = c.version
  loop
    if part.version is null then
      return query select min(c.at), null::integer, null::"char", null::text, c.change
        from cache_invalidation.changes as c where c.xid = any (xids) and c.version is null group by c.change;
      continue;
    elsif part.id is null then
      return query select part.at, null::integer, part.op::"char", '02000', '*';
      continue;
    end if;
    begin
      found_targets := null;
      error := coalesce(part.error, case when not part.is_sound then '42804' end);
      if part.is_sound and not part.has_no_key then
        -- more than 1 000 targets of a watch become its wildcard, and a first part of the changes may be enough to tell
        foreach sample in array case when part.number > 10000 then '{10000,null}' else '{null}' end::integer[] loop
          found_targets := array(
            select t from cache_invalidation.run_target_query(xids, part.version, sample, most, part.place) as t);
          exit when cardinality(found_targets) = most;
        end loop;
        if part.hops <> '{}' then
          -- our snapshot sees no row of a joined table that ALTER TABLE has rewritten meanwhile
          perform from cache_invalidation.table_trees(array(select h.parent::oid from unnest(part.hops) as h)) as t join pg_class as c on c.oid = t.rel
            where c.relfilenode <> pg_relation_filenode(c.oid);
          if found then
            raise lock_not_available;
          end if;
        end if;
      end if;
    exception
      when others then
        error := sqlstate;
        found_targets := null;
    end;
    if found_targets is null or cardinality(found_targets) = most then
      found_targets := array[row(part.at, coalesce(part.failed_op, part.op), cache_invalidation.type_wildcard(part.target))::cache_invalidation.outbox_target];
    end if;
    return query select t.written_at, part.watch_id, t.op, error, t.target from unnest(found_targets) as t;
    if part.place = 0 and part.retired is not null then
      return query select part.at, later.watch_id, part.op::"char", null::text, cache_invalidation.type_wildcard(later.target)
        from cache_invalidation.versions as later
        where later.rel = part.rel and later.made > part.made and later.id <> part.version and not exists (
          select from cache_invalidation.versions as known
          where known.id = part.version and known.watch_id = later.watch_id and known.target = later.target
            and known.columns is not distinct from later.columns and known.hops = later.hops);
    end if;
  end loop;
end
$$;

-- Hands out a batch as one row of arrays: docs/capture.md#how-a-worker-drives-it. Writes nothing. STABLE: every query below sees the
-- snapshot of the calling statement. SECURITY DEFINER, because it reads joined tables.
create function cache_invalidation.claim("position" cache_invalidation.claim_position default null, max_rows integer default 1000)
returns table (
  next_position cache_invalidation.claim_position, drained boolean, xids xid8[], changes bigint,
  targets text[], watch_ids integer[], ops "char"[], waited_us bigint[], errors text[], intervals_ms bigint[]
) language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
-- next_position is one composite column among others: @plpgsql_check_options: extra_warnings = false
declare
  run constant pg_snapshot := coalesce(("position").run, pg_current_snapshot());
  after_xid constant xid8 := coalesce(("position").xid, '0');
  -- the transaction of each change: those that were running at A, and those that began after it
  page constant xid8[] := array(
    (
      select late.xid from pg_snapshot_xip(("position").seen) as started(xid)
      cross join lateral (select c.xid from cache_invalidation.changes as c where c.xid = started.xid and c.xid > after_xid limit max_rows + 1) as late
    )
    union all
    (
      select c.xid from cache_invalidation.changes as c
      where c.xid >= coalesce(pg_snapshot_xmax(("position").seen), '1') and c.xid > after_xid order by c.xid limit max_rows + 1
    )
    order by xid limit max_rows + 1);
  total constant integer := cardinality(page);
  last_xid xid8 := page[total];
begin
  -- The last transaction of a full page may have more changes. It belongs to the next one, unless it is the only one.
  if total > max_rows and page[1] <> last_xid then
    last_xid := (select max(p.xid) from unnest(page) as p(xid) where p.xid < last_xid);
  end if;
  drained := ("position").run is null and total <= max_rows;
  next_position := case
    when total > max_rows and last_xid < pg_snapshot_xmax(run) then row(("position").seen, run, last_xid)::cache_invalidation.claim_position
    else row(run, null, null)::cache_invalidation.claim_position
  end;
  select array_agg(distinct p.xid), count(p.xid) into xids, changes from unnest(page) as p(xid) where p.xid <= last_xid;
  if changes > max_rows then
    -- one transaction, of which the page has but the beginning
    changes := (select count(*) from cache_invalidation.changes as c where c.xid = last_xid);
  end if;
  select array_agg(r.target), array_agg(r.watch_id), array_agg(r.op), array_agg(r.waited_us), case when count(r.error) > 0 then array_agg(r.error) end,
      case when count(w.min_interval) > 0 then array_agg((1000 * date_part('epoch', w.min_interval))::bigint) end
    into targets, watch_ids, ops, waited_us, errors, intervals_ms
    from (
      select t.target, t.watch_id, min(t.op::text)::"char" as op, max(t.error) as error,
        -- date_part and not extract: the latter computes with numeric
        (1000000 * date_part('epoch', clock_timestamp() - min(t.written_at)))::bigint as waited_us
      from cache_invalidation.render(xids) as t
      group by t.target, t.watch_id
    ) as r
    left join cache_invalidation.watches as w on w.id = r.watch_id;
  return next;
end
$$;

-- Removes the changes of transactions whose targets Redis has confirmed, or that stand in pending; returns how many. Each is looked up
-- through the index, whatever the planner knew of the table's size: OFFSET 0 keeps the order of the join, and the rows are deleted by
-- their ctid.
create function cache_invalidation.acknowledge(xids xid8[]) returns bigint language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  removed bigint;
begin
  delete from cache_invalidation.changes as c
    where c.ctid = any (array(
      select found.ctid from unnest(xids) as a(xid)
      cross join lateral (select o.ctid from cache_invalidation.changes as o where o.xid = a.xid offset 0) as found));
  get diagnostics removed = row_count;
  return removed;
end
$$;

-- What is committed and not yet confirmed, for people: the targets of each transaction.
create view cache_invalidation.outbox as
  select t.xid, min(r.written_at) as written_at, r.watch_id, min(r.op::text)::"char" as op, max(r.error) as error, r.target
  from (select distinct c.xid from cache_invalidation.changes as c) as t
  cross join lateral cache_invalidation.render(array[t.xid]) as r
  group by t.xid, r.watch_id, r.target;
comment on view cache_invalidation.outbox is 'Fencepost: what is committed and not yet confirmed. Empty, and pending too: everything is confirmed.';
-- Whole transactions, by hand.
create rule outbox_delete as on delete to cache_invalidation.outbox
  do instead delete from cache_invalidation.changes as c where c.xid = old.xid;
