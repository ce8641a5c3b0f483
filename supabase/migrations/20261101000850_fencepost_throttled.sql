-- Fencepost 8/9, part 2: throttled targets, those of watches with a min_interval. Each has one row in cache_invalidation.deferred:
--
--   (no row)   its next event runs at once
--   resting    waiting = false, run is null   it ran at ran_at; at due_at its row may be deleted
--   waiting    waiting = true,  run is null   an event came too soon after that: due() hands it out at due_at
--   running    waiting = false, run = r       handed out as run r and not confirmed yet: a lease that ends at due_at
--   running +  waiting = true,  run = r       and an event came that this run may not have seen
--
-- Promise: an event whose row left the outbox by rest() is followed by a confirmed DEL, or its target is waiting or running.
-- Transitions and proof: docs/protocol.md#throttled-targets
--
-- No function waits for a row that another session has locked (skip locked everywhere): an open transaction would hold up the
-- invalidations of all other targets. A skipped row costs a run too many, never one too few:
--
--   rest()         the target's events run at once
--   acknowledge()  the target keeps its former times, or has none: its next event may run early
--   resume()       the run stays a lease, which ends by itself
--   settle()       the same: the target runs once more when the lease is over
--   due()          the target waits until the lock is gone
--
-- Intervals are compared event by event: an event may run when its own watch's interval has passed since ran_at, whichever watch
-- that run was for. A ran_at in the future counts as long ago, so a clock that steps back delays nothing.

-- A worker whose position is null calls this before it claims: what its predecessor was running must run again.
create function cache_invalidation.resume() returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update cache_invalidation.deferred as d set waiting = true, run = null, due_at = pg_catalog.clock_timestamp()
    where d.target = any (array(
      select r.target from cache_invalidation.deferred as r where r.run is not null for update skip locked
    ))
$$;

-- Takes claimed rows. Moves those whose target ran less than their min_interval ago, waits or is running into deferred, in this
-- transaction, and returns their ids. The caller runs all others now. The first event of a target runs at once.
--
-- Each target is looked up in deferred through its key, whatever the planner knows of the table's size: hence no other kind of
-- join. Of several events of a target the one with the shortest interval decides, since one run serves all.
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

-- What acknowledge() does for targets with a min_interval: they are throttled from now on. It waits for a lock only where another
-- session has inserted the same target and not committed: at most 1 s, after which the targets of this batch are not throttled.
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

-- The functions below find rows in the order of an index. `enable_sort = off` makes it the partial index of that order, also in a plan
-- that was made while the table was empty and every index cost the same.

-- Deletes the rows of targets whose interval is over without a new event: their next event runs at once. Returns when to call it
-- again; null: not before another target is throttled. A locked row is left for the next call.
create function cache_invalidation.forget_rested(max_rows integer default 5000) returns timestamptz
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan
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
    select greatest(r.due_at, clock_timestamp() + interval '1 minute')
    from cache_invalidation.deferred as r where not r.waiting and r.run is null
    order by r.due_at
    limit 1
  );
end
$$;

-- Hands out targets that are due, and those whose lease is over, and marks them as running until settle(). All rows of one call
-- carry the same run. The lease is 1 minute. A worker whose Redis is away keeps its run for longer, but does not call due() then.
create function cache_invalidation.due(max_rows integer default 1000)
returns table (target text, watch_id integer, since timestamptz, run uuid)
language plpgsql
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan
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
        -- The clock stepped back.
        select w.target from cache_invalidation.deferred as w
        where (w.waiting or w.run is not null) and w.ran_at > (select clock_timestamp())
        order by w.ran_at
        limit max_rows
        for update skip locked
      ))
      returning d.target, d.watch_id, d.since, d.run;
end
$$;

-- Redis has confirmed these targets: they are throttled again. Takes targets and run as due() returned them.
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

-- When to call due() next; null: not before rest() has moved something.
create function cache_invalidation.next_due() returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan
as $$
  select case
    when (
      select d.ran_at from cache_invalidation.deferred as d where d.waiting or d.run is not null order by d.ran_at desc limit 1
    ) > pg_catalog.clock_timestamp() then pg_catalog.clock_timestamp()
    else (select d.due_at from cache_invalidation.deferred as d where d.waiting or d.run is not null order by d.due_at limit 1)
  end
$$;
