-- Fencepost 8/9, part 1: the worker's side of the outbox. Only the leader (the session that holds S) calls these.
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
--
-- Several pages may be in the worker's hands at once: the next claim may be sent before the former page is applied or
-- acknowledged. Nothing above speaks of acknowledgements: A and p alone say what has been handed out, a row that is deleted
-- between two claims is one less to hand out, and a row that is not deleted yet is handed out again only where the
-- protocol does so anyway (visible in a later page of a run but not in B).

-- What a worker keeps between two claims, as text and without a look inside: A, B and p of the protocol.
create type cache_invalidation.claim_position as (seen pg_snapshot, run pg_snapshot, xid xid8, id bigint);

-- Hands out a page: one row of arrays, element by element one outbox row each; null when the page is empty.
--
--   rests      the page names targets of watches with a min_interval: rest() has to see it before they are run
--   waited_us  microseconds from the write to the claim
--   errors     null when no row of the page has one
--
-- It reads and writes nothing. It is one query that Postgres merges into the caller's (hence STABLE, and the body that is
-- parsed here and now instead of a search_path of its own): that is what makes a claim of one row cost 0.1 ms less than
-- a function called, and arrays are what makes one of 2 000 rows cost half of 2 000 rows sent, and a sixth to read.
-- The session must plan it once and without a sequential scan, which a plan made while the table was small would have:
--   set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off
--
-- The aggregates see the rows in the order of the subquery below them, (xid, id).
create function cache_invalidation.claim("position" cache_invalidation.claim_position default null, max_rows integer default 1000)
returns table (
  next_position cache_invalidation.claim_position, drained boolean, rests boolean,
  xids xid8[], ids bigint[], targets text[], watch_ids integer[], ops "char"[], waited_us bigint[], errors text[]
)
language sql stable
begin atomic
  select
    case when page.is_full and page.xids[max_rows] < pg_snapshot_xmax(coalesce(("position").run, page.snapshot))
      then row(("position").seen, coalesce(("position").run, page.snapshot), page.xids[max_rows], page.ids[max_rows])::cache_invalidation.claim_position
      else row(coalesce(("position").run, page.snapshot), null, null, null)::cache_invalidation.claim_position
    end,
    ("position").run is null and not page.is_full,
    coalesce(page.watch_ids && array(select w.id from cache_invalidation.watches as w where w.min_interval is not null), false),
    page.xids, page.ids, page.targets, page.watch_ids, page.ops, page.waited_us,
    case when page.widened > 0 then page.errors end
  from (
    select
      pg_current_snapshot() as snapshot, count(*) >= max_rows as is_full, count(o.error) as widened,
      array_agg(o.xid) as xids, array_agg(o.id) as ids, array_agg(o.target) as targets, array_agg(o.watch_id) as watch_ids,
      array_agg(o.op) as ops, array_agg(o.error) as errors,
      -- date_part and not extract: the latter computes with numeric
      array_agg((1000000 * date_part('epoch', clock_timestamp() - o.written_at))::bigint) as waited_us
    from (
      select found.*
      from (
        -- transactions that were running at A; xmax 1: nothing has been seen
        select late.*
        from pg_snapshot_xip(coalesce(("position").seen, '1:1:')) as started(xid)
        cross join lateral (
          select o.* from cache_invalidation.outbox as o
          where o.xid = started.xid and (o.xid, o.id) > (coalesce(("position").xid, '0'), coalesce(("position").id, 0))
          order by o.xid, o.id
          limit max_rows
        ) as late
        where coalesce(("position").xid, '0') < pg_snapshot_xmax(coalesce(("position").seen, '1:1:'))
        union all
        -- transactions that began after A
        (
          select o.* from cache_invalidation.outbox as o
          where (o.xid, o.id) > (
            greatest(coalesce(("position").xid, '0'), pg_snapshot_xmax(coalesce(("position").seen, '1:1:'))),
            case when coalesce(("position").xid, '0') < pg_snapshot_xmax(coalesce(("position").seen, '1:1:')) then 0 else ("position").id end
          )
          order by o.xid, o.id
          limit max_rows
        )
      ) as found
      order by found.xid, found.id
      limit max_rows
    ) as o
  ) as page;
end;

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

-- Removes rows whose targets Redis has confirmed as deleted. Takes the rows' xid and id, pairwise; gives how many rows
-- were removed. Targets with a min_interval rest from now on, in the same transaction (see _deferred); `rests` false says
-- that the rows' page named none (claim's answer), which saves reading each row before it goes.
create function cache_invalidation.acknowledge(xids xid8[], ids bigint[], rests boolean default true) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
begin
  if rests then
    perform cache_invalidation.rest_from_now(xids, ids);
  end if;
  return cache_invalidation.remove_rows(xids, ids);
end
$$;
