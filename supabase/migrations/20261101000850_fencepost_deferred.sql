-- Fencepost 8/9, part 2: targets with a min_interval. One row a target in cache_invalidation.deferred:
--
--   (no row)   its next event runs at once
--   resting    waiting = false, run is null   it ran at ran_at; at due_at it may be forgotten
--   waiting    waiting = true,  run is null   an event came too soon after that: due() hands it out when due_at has come
--   running    waiting = false, run = r       handed at ran_at to the worker that called due() and got r, not confirmed yet: a lease,
--                                             which ends at due_at
--   running +  waiting = true,  run = r       and an event came that this run may not have seen
--
--   (no row)  → resting    acknowledge(): the first event has run
--   resting   → resting    the same: an event came whose own interval was over
--   resting   → waiting    rest(): an event; its row leaves the outbox in the same transaction
--   waiting   → waiting    the same: an event of a shorter interval brings due_at forward
--   running   → running +  the same
--   resting   → (no row)   forget_rested(): due_at has passed
--   waiting   → running    due(): with a run r of its own
--   running   → resting    settle(r): confirmed.         running + → waiting in the same way
--   running   → waiting    resume(): a worker begins anew; the run it interrupts has no name any more
--   running   → running    due(): the lease is over; another run. It is that of a due() which committed after the resume() of
--                          its worker's successor, or of a settle() that found the row locked, and which nobody else would end
--
-- Invariant: an event whose row left the outbox by rest() is followed by a confirmed DEL, or its target is waiting or running.
--
-- - rest() removes only rows of targets whose row in deferred it has locked, and whose state it has read under that lock:
--   what forget_rested() deletes meanwhile is not counted on, and its event runs at once. Where the state was
--   `waiting`, or turned from it to `running` after rest() began, the DEL of the run is sent after that, hence after
--   the event's commit.
-- - Only due() ends `waiting`, and its run's DEL is sent after it.
-- - Only the settle() that names the run ends `running`, and it names a run whose DEL is confirmed. A worker that was stopped
--   between its DEL and its settle(), and wakes up when its successor runs the same target again, names another run.
--   So does one whose run was interrupted by resume(): the target is run once more.
--
-- Nobody waits for a row of deferred that another session has locked (skip locked everywhere): somebody's open transaction, or
-- the backend of a worker that was cut off, would hold up the invalidations of all other targets. What is passed over costs
-- a run too many, never one too few:
--   rest()         the target's events run at once
--   acknowledge()  the target keeps the rest that it had, or has none: its next event may run sooner than it must. What
--                  waits goes on waiting for its due_at
--   resume()       the run goes on as a lease, which ends by itself
--   settle()       the same: the target runs once more when the lease is over
--   due()          what waits goes on waiting, until the lock is gone
--
-- Intervals are compared event by event: one may run when its own watch's interval has passed since ran_at, whichever watch
-- that run was for. A row that is forgotten early (after the interval of those that ran last) lets the event of a longer one
-- run sooner than it must.
--
-- When the clock steps back, nothing waits for the size of the step: a ran_at that lies in the future counts as long ago.

-- A worker whose position is null calls this before it claims: what its predecessor was running has to run again.
create function cache_invalidation.resume() returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update cache_invalidation.deferred as d set waiting = true, run = null, due_at = pg_catalog.clock_timestamp()
    where d.target = any (array(
      select r.target from cache_invalidation.deferred as r where r.run is not null for update skip locked
    ))
$$;

-- Takes claimed rows; moves those whose target ran less than their min_interval ago (or waits, or is being run right now) into
-- deferred, atomically, and gives their ids; all others are to be run now. The first event of a target runs at once.
--
-- One look at deferred for each target, through its key, whatever the planner thinks of the table's size: hence no other
-- kind of join. The event of a target with the shortest interval decides for all of them, since one run serves all.
create function cache_invalidation.rest(xids xid8[], ids bigint[]) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off
set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
  moved_xids xid8[];
  moved_ids bigint[];
begin
  with event as materialized (
    select
      o.target, min(o.written_at) as written_at, array_agg(o.xid) as xids, array_agg(o.id) as ids,
      min(least(w.min_interval, interval '1 year')) as min_interval, (array_agg(w.id order by w.min_interval))[1] as watch_id
    from unnest(xids, ids) as a(xid, id)
    cross join lateral (
      select row_of.* from cache_invalidation.outbox as row_of where row_of.xid = a.xid and row_of.id = a.id offset 0
    ) as o
    join cache_invalidation.watches as w on w.id = o.watch_id and w.min_interval is not null
    group by o.target
  ), resting as materialized (
    select e.*
    from event as e
    cross join lateral (
      select from cache_invalidation.deferred as d
      where d.target = e.target
        and (d.waiting or d.run is not null or (d.ran_at <= clock_timestamp() and d.ran_at + e.min_interval > clock_timestamp()))
      for update skip locked
    ) as locked
  ), waits as (
    -- One write for each target and interval, not for each event: an event for a target that waits already adds nothing,
    -- unless its interval is shorter.
    update cache_invalidation.deferred as d
      set waiting = true, watch_id = r.watch_id, min_interval = r.min_interval,
        since = case when d.waiting then d.since else r.written_at end,
        due_at = case
          when d.run is not null then d.due_at
          when d.waiting then least(d.due_at, d.ran_at + r.min_interval)
          else d.ran_at + r.min_interval
        end
      from resting as r
      where d.target = r.target and (not d.waiting or r.min_interval < d.min_interval)
  )
  select array_agg(m.xid), array_agg(m.id) into moved_xids, moved_ids from resting as r, unnest(r.xids, r.ids) as m(xid, id);
  if moved_ids is null then
    return '{}'::bigint[];
  end if;
  perform cache_invalidation.remove_rows(moved_xids, moved_ids);
  return moved_ids;
end
$$;

-- What acknowledge() does for targets with a min_interval: they rest from now on. Nobody waits for a lock here, except where
-- another session has just inserted the same target and not committed: for a second; then the page's targets do not rest.
create function cache_invalidation.rest_from_now(xids xid8[], ids bigint[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off
set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan set lock_timeout = '1s'
as $$
begin
  with confirmed as materialized (
    select
      o.target, min(w.id) as watch_id,
      min(least(w.min_interval, interval '1 year')) as shortest, max(least(w.min_interval, interval '1 year')) as longest
    from unnest(xids, ids) as a(xid, id)
    cross join lateral (
      select row_of.target, row_of.watch_id from cache_invalidation.outbox as row_of where row_of.xid = a.xid and row_of.id = a.id offset 0
    ) as o
    join cache_invalidation.watches as w on w.id = o.watch_id and w.min_interval is not null
    -- A longer target has no place in an index: each of its events runs at once, rather than none being acknowledged.
    where octet_length(o.target) <= 2600
    group by o.target
  ), known as materialized (
    select c.*
    from confirmed as c
    cross join lateral (
      select from cache_invalidation.deferred as d where d.target = c.target for update skip locked
    ) as locked
  ), again as (
    update cache_invalidation.deferred as d
      set ran_at = clock_timestamp(),
        due_at = case when d.waiting or d.run is not null then d.due_at else greatest(d.due_at, clock_timestamp() + k.longest) end
      from known as k
      where d.target = k.target
  )
  insert into cache_invalidation.deferred (target, watch_id, min_interval, due_at)
    select c.target, c.watch_id, c.shortest, clock_timestamp() + c.longest
    from confirmed as c
    where not exists (select from cache_invalidation.deferred as d where d.target = c.target)
    -- always in one order: others insert the same targets beside this
    order by c.target
    on conflict (target) do nothing;
exception
  when lock_not_available then null;
end
$$;

-- Targets that have rested enough and had no event meanwhile need no memory: their next event runs at once. To be called now
-- and then, and again at the time that it gives; null: not until something rests. A row that somebody else is at is left
-- for the next time.
create function cache_invalidation.forget_rested(max_rows integer default 5000) returns timestamptz
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  forgotten bigint;
begin
  delete from cache_invalidation.deferred as d
    where d.target = any (array(
      select r.target from cache_invalidation.deferred as r
      where not r.waiting and r.run is null and r.due_at <= (select clock_timestamp())
      order by r.due_at
      limit max_rows
      for update skip locked
    ));
  get diagnostics forgotten = row_count;
  if forgotten >= max_rows then
    return clock_timestamp();
  end if;
  return (
    select case when min(r.due_at) is not null then greatest(min(r.due_at), clock_timestamp() + interval '1 minute') end
    from cache_invalidation.deferred as r where not r.waiting and r.run is null
  );
end
$$;

-- Deferred targets that are due, and those whose run's lease is over; they are marked as running until settle(). All rows of one
-- call carry the same run. A minute: a worker whose Redis is away holds on to its run for longer, but calls due() no sooner itself.
create function cache_invalidation.due(max_rows integer default 1000)
returns table (target text, watch_id integer, since timestamptz, run uuid)
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  this_run constant uuid := gen_random_uuid();
begin
  return query
    update cache_invalidation.deferred as d
      set run = this_run, waiting = false, ran_at = clock_timestamp(), due_at = clock_timestamp() + interval '1 minute'
      where d.target = any (array(
        select w.target from cache_invalidation.deferred as w
        where (w.waiting or w.run is not null) and w.due_at <= (select clock_timestamp())
        order by w.due_at
        limit max_rows
        for update skip locked
      ) || array(
        -- the clock was set back
        select w.target from cache_invalidation.deferred as w
        where (w.waiting or w.run is not null) and w.ran_at > (select clock_timestamp())
        order by w.ran_at
        limit max_rows
        for update skip locked
      ))
      returning d.target, d.watch_id, d.since, d.run;
end
$$;

-- Redis has confirmed these deferred targets: they rest again. Takes what due() gave, targets and run.
create function cache_invalidation.settle(targets text[], run uuid) returns void
language sql
set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
  update cache_invalidation.deferred as d
    set run = null, ran_at = pg_catalog.clock_timestamp(), due_at = pg_catalog.clock_timestamp() + d.min_interval
    where d.target = any (array(
      select r.target from cache_invalidation.deferred as r where r.target = any (targets) and r.run = settle.run for update skip locked
    ))
$$;

-- When due() should be called next; null: not at all until rest() has moved something.
create function cache_invalidation.next_due() returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
  select case
    when exists (
      select from cache_invalidation.deferred as d
      where (d.waiting or d.run is not null) and d.ran_at > (select pg_catalog.clock_timestamp())
    ) then pg_catalog.clock_timestamp()
    else (select min(d.due_at) from cache_invalidation.deferred as d where d.waiting or d.run is not null)
  end
$$;
