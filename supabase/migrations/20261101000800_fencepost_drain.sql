-- Fencepost 8/9: the worker's side of the outbox. Only the leader (the session that holds S) calls these.
--
-- Why not `order by id limit n`: a row's number says when it was inserted, not when it was committed, and the index
-- entries of deleted rows stay as long as any old snapshot could still see the rows, so that every claim would read
-- all of them again. Why not `id > cursor` either: a transaction that commits late has a lower number.
--
-- A claim reads only what became visible since an earlier snapshot A, `seen`. The rows that A did not show were written
-- by transactions that had not started by then (xid >= xmax(A)) or were running (xid in xip(A)): a range at
-- the end of the index and one probe for each running transaction, whatever number of dead entries lies before them.
-- (The idea is PgQ's, of Skytools.)
--
--   position = seen A, run B, after p     A: everything visible in A has been handed out.   null: nothing has
--   claim, first page of a run            B := the snapshot of this statement
--   claim, further page                   only rows after p
--   page full and p below xmax(B)         the run goes on: p := last row
--   page short, or p at or above xmax(B)  the run is complete: A := B, p := none
--
-- Invariant: each committed row that is still in the outbox and has not been handed out is invisible in A; and if it was
-- visible in B, it lies after p. It holds: while a run goes on, pages go through all rows invisible in A in the order
-- (xid, id), and a row visible in B is visible in every later page. At the end of the run every row visible in B
-- lies at or before p, because its xid is below xmax(B), or the short page showed that none is left. So A := B keeps it.
-- A row that commits during the run behind p is invisible in B, hence in the new A, and belongs to the next run.
-- A row may be handed out twice (when it was visible in a later page of a run but not in B), never not at all.
--
-- `drained` is true when the page was the first of its run and had room left: everything committed before this claim's
-- snapshot has been handed out. That, with a snapshot begun after K was granted, is "empty" in the doorbell's rules.
-- The worker starts with null on every new connection, which hands out all that is not acknowledged, and remembers rows
-- that failed itself. Losing a position costs only repetition.

-- What claim hands out of a row. A type of its own: a later migration can add columns to the outbox while workers claim.
create type cache_invalidation.claimed as (
  xid xid8, id bigint, target text, watch_id integer, op "char", written_at timestamptz, error text
);

create function cache_invalidation.claim("position" text default null, max_rows integer default 1000)
returns table (next_position text, drained boolean, xid xid8, id bigint, target text, watch_id integer, op "char", written_at timestamptz, error text)
language plpgsql
-- A plan made while the table was small must not be a sequential scan when it no longer is.
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  parts text[] := pg_catalog.string_to_array(claim."position", '|');
  -- xmax 1: nothing has been seen
  seen pg_snapshot := coalesce(parts[1], '1:1:')::pg_snapshot;
  run pg_snapshot := parts[2]::pg_snapshot;
  first_page constant boolean := run is null;
  after_xid xid8 := coalesce(parts[3], '0')::xid8;
  after_id bigint := coalesce(parts[4], '0')::bigint;
  page cache_invalidation.claimed[];
  page_snapshot pg_snapshot;
  full_page boolean;
begin
  if claim."position" is null then
    -- a new leader: what its predecessor was running has to run again
    update cache_invalidation.deferred as d set waiting = true, running = false where d.running;
  end if;

  select pg_current_snapshot(),
      array_agg(row(o.xid, o.id, o.target, o.watch_id, o.op, o.written_at, o.error)::cache_invalidation.claimed order by o.xid, o.id)
    into page_snapshot, page
    from (
      select found.*
      from (
        -- transactions that were running at A
        select late.*
        from pg_snapshot_xip(seen) as started(xid)
        cross join lateral (
          select o.* from cache_invalidation.outbox as o
          where o.xid = started.xid and (o.xid, o.id) > (after_xid, after_id)
          order by o.xid, o.id
          limit max_rows
        ) as late
        where after_xid < pg_snapshot_xmax(seen)
        union all
        -- transactions that began after A
        (
          select o.* from cache_invalidation.outbox as o
          where (o.xid, o.id) > (greatest(after_xid, pg_snapshot_xmax(seen)), case when after_xid < pg_snapshot_xmax(seen) then 0 else after_id end)
          order by o.xid, o.id
          limit max_rows
        )
      ) as found
      order by found.xid, found.id
      limit max_rows
    ) as o;

  full_page := coalesce(cardinality(page), 0) >= max_rows;
  run := coalesce(run, page_snapshot);
  if full_page and page[max_rows].xid < pg_snapshot_xmax(run) then
    next_position := concat_ws('|', seen, run, page[max_rows].xid, page[max_rows].id);
  else
    next_position := run::text;
  end if;
  drained := first_page and not full_page;

  if page is null then
    return next;
    return;
  end if;
  return query
    select next_position, drained, p.xid, p.id, p.target, p.watch_id, p.op, p.written_at, p.error
    from cache_invalidation.defer(page) as p;
  if not found then
    return next;
  end if;
end
$$;

-- Removes rows of the outbox, gives how many. The rows are looked up one by one through the index, whatever the
-- planner thinks of the table's size (it may have been empty when this session planned): OFFSET 0 keeps the order of the
-- join, and the rows are then deleted by their place. A row that somebody else has deleted meanwhile is skipped.
create function cache_invalidation.remove_rows(xids xid8[], ids bigint[]) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  removed bigint;
begin
  delete from cache_invalidation.outbox as o
    where o.ctid = any (array(
      select found.ctid
      from unnest(xids, ids) as a(xid, id)
      cross join lateral (
        select row_of.ctid from cache_invalidation.outbox as row_of where row_of.xid = a.xid and row_of.id = a.id offset 0
      ) as found));
  get diagnostics removed = row_count;
  return removed;
end
$$;

-- Takes claimed rows; moves those whose target ran less than min_interval ago into deferred, atomically, and gives the
-- others, to be run now. The first event of a target runs at once.
create function cache_invalidation.defer(page cache_invalidation.claimed[]) returns setof cache_invalidation.claimed
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  slow_watches integer[];
  resting text[];
begin
  slow_watches := array(select w.id from cache_invalidation.watches as w where w.min_interval is not null);
  if slow_watches <> '{}' then
    -- targets that must rest until due_at, or wait already, or are being run right now
    resting := array(
      select d.target from cache_invalidation.deferred as d
      where d.target = any (array(select distinct p.target from unnest(page) as p where p.watch_id = any (slow_watches)))
        and (d.due_at > clock_timestamp() or d.waiting or d.running));
  end if;
  if resting is null or resting = '{}' then
    return query select p.* from unnest(page) as p;
    return;
  end if;
  -- One write for each target and interval, not for each event: an event for a target that waits already adds nothing.
  update cache_invalidation.deferred as d
    set waiting = true,
      since = (select min(p.written_at) from unnest(page) as p where p.target = any (resting))
    where d.target = any (resting) and not d.waiting;
  perform cache_invalidation.remove_rows(array_agg(p.xid), array_agg(p.id))
    from unnest(page) as p
    where p.watch_id = any (slow_watches) and p.target = any (resting);
  return query
    select p.* from unnest(page) as p
    where p.watch_id is null or p.watch_id <> all (slow_watches) or p.target <> all (resting);
end
$$;

-- Targets that have rested enough and had no event meanwhile need no memory: their next event runs at once.
create function cache_invalidation.forget_rested() returns void
language sql
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
  delete from cache_invalidation.deferred as d
    where d.due_at <= pg_catalog.clock_timestamp() and not d.waiting and not d.running
$$;

-- Removes rows whose targets Redis has confirmed as deleted. Takes the rows' xid and id, pairwise; gives how many rows
-- were removed. Targets with a min_interval rest from now on, in the same transaction.
create function cache_invalidation.acknowledge(xids xid8[], ids bigint[]) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
begin
  if exists (select from cache_invalidation.watches as w where w.min_interval is not null) then
    insert into cache_invalidation.deferred as d (target, watch_id, due_at)
      select confirmed.target, min(confirmed.watch_id), clock_timestamp() + max(w.min_interval)
      from unnest(xids, ids) as a(xid, id)
      cross join lateral (
        select o.target, o.watch_id from cache_invalidation.outbox as o where o.xid = a.xid and o.id = a.id offset 0
      ) as confirmed
      join cache_invalidation.watches as w on w.id = confirmed.watch_id and w.min_interval is not null
      group by confirmed.target
      on conflict (target) do update set due_at = excluded.due_at, watch_id = excluded.watch_id;
    perform cache_invalidation.forget_rested();
  end if;
  return cache_invalidation.remove_rows(xids, ids);
end
$$;

-- Deferred targets that are due; they are marked as running until settle().
create function cache_invalidation.due(max_rows integer default 1000)
returns table (target text, watch_id integer, since timestamptz)
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  perform cache_invalidation.forget_rested();
  return query
    update cache_invalidation.deferred as d set running = true, waiting = false
    where d.target = any (array(
        select ready.target from cache_invalidation.deferred as ready
        where ready.waiting and not ready.running and ready.due_at <= clock_timestamp()
        order by ready.due_at
        limit max_rows
      ))
    returning d.target, d.watch_id, d.since;
end
$$;

-- Redis has confirmed these deferred targets: they rest again. Takes what due() gave.
create function cache_invalidation.settle(targets text[]) returns void
language sql
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
  update cache_invalidation.deferred as d
    set running = false,
      due_at = pg_catalog.clock_timestamp()
        + coalesce((select w.min_interval from cache_invalidation.watches as w where w.id = d.watch_id), interval '0')
    where d.target = any (targets) and d.running
$$;

-- When due() should be called next; null: not at all until a claim defers something.
create function cache_invalidation.next_due() returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
  select min(d.due_at) from cache_invalidation.deferred as d where d.waiting and not d.running
$$;
