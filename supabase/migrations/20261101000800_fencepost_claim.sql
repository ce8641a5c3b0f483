-- Fencepost 8/9, part 1: the worker's side of the outbox. Only the leader (the session that holds LEADER_LOCK) calls these.
--
-- claim() reads what became visible since an earlier snapshot A. It does not use `id > cursor`, because a transaction that commits
-- late has a lower id. It does not use `order by id limit n`, because an old snapshot keeps the index entries of deleted rows, and
-- every claim would read all of them again. (The idea is PgQ's, of Skytools.)
--
--   position = seen A, run B, after p     A: everything visible in A has been handed out.   null: nothing has been
--   claim, first batch of a run           B := the snapshot of this statement
--   claim, further batch                  only rows after p
--   batch full and p below xmax(B)        the run continues: p := last row
--   batch short, or p at or above xmax(B) the run is complete: A := B, p := none
--
-- Promise: a committed row that is still in the outbox and was not handed out is invisible in A; if it is visible in B, it lies after
-- p. A row may be handed out twice, but is never skipped. Why this holds: docs/protocol.md#outbox-and-claims
--
-- `drained` is true for a run's first batch that had room left: everything committed before this claim's snapshot has been
-- handed out. A worker starts with null on every new connection, which hands out all rows again. It keeps failed rows in mind
-- itself. The next claim may be sent before the previous batch is acknowledged.

-- What a worker keeps between two claims: A, B and p above. It treats the value as opaque text.
create type cache_invalidation.claim_position as (seen pg_snapshot, run pg_snapshot, xid xid8, id bigint);

-- Hands out a batch as one row of arrays, each with one element for an outbox row; null when the batch is empty. Writes nothing.
--
--   rests      the batch has targets with a min_interval: rest() must see it before they run
--   waited_us  microseconds from the write to the claim
--   errors     null when no row of the batch has one
--
-- Postgres merges this query into the caller's, which saves 0.1 ms a claim. For that it is STABLE and its body is parsed when it is
-- created, instead of having a search_path. Arrays halve the cost of sending 2 000 rows, and reading them costs a sixth.
-- The session must plan it once and without a sequential scan, which a plan made while the table was small would contain:
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

-- Removes rows of the outbox; returns how many. Each row is looked up through the index, whatever the planner knew of the table's
-- size when this session planned: OFFSET 0 keeps the order of the join, and the rows are deleted by their ctid. A row that another
-- session has deleted is skipped.
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

-- Removes rows whose targets Redis has confirmed as deleted. Takes xid and id of the rows, pairwise; returns how many were removed.
-- Targets with a min_interval are throttled from now on, in the same transaction (_throttled). `rests` false says that claim() found
-- none in the batch, which saves reading each row before it is deleted.
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
