-- Fencepost 1/9: the tables. Everything Fencepost keeps in your database lives in this schema.
--
--   a write to a watched table ─▶ its capture trigger ─▶ outbox ─▶ NOTIFY ─▶ the worker claims, deletes in Redis,
--   (your transaction)            (same transaction)     one row   only if   acknowledges: the row is gone
--                                                        a target  it sleeps
--
-- Read on in this order: _encoding (values to key segments), _wakeup (waking the worker), _template and _join (what watch()
-- accepts), _queries and _capture (the trigger function generated for each watch), _checks, _triggers, _watch, _claim (the worker's
-- side), _throttled, _epoch, _renames, _refresh, _ddl, _privileges. The proofs are in docs/protocol.md.

create schema cache_invalidation;
comment on schema cache_invalidation is
  'Fencepost: what must be invalidated in the cache. Never expose this schema through an API.';
revoke all on schema cache_invalidation from public;

-- The worker's role has the least rights that the worker needs; grant it to the login role the worker connects as.
-- (The role is shared by all databases of a server, so it may exist already.)
do $$
begin
  create role fencepost_worker nologin;
exception
  when duplicate_object or unique_violation then null;
end
$$;

-- What is watched. For people and for `fencepost doctor`; only watch(), unwatch() and refresh() write it.
create table cache_invalidation.watches (
  id integer generated always as identity primary key,
  rel regclass not null,
  target text not null,
  columns text[],
  min_interval interval check (min_interval > interval '0'),
  join_clause text,
  -- the tables of the join, so that DDL and watches of other tables need not read its text
  join_rels regclass[] not null default '{}',
  -- true: row triggers (partitioned tables, inheritance children, tables fed by logical replication)
  row_level boolean not null default false,
  -- false: it could not be served as its table was when last looked at, and invalidates the whole type: see refresh_watch()
  served boolean not null default true,
  -- name and number of each column of rel that the declaration names, to follow renames
  column_numbers jsonb not null default '{}',
  -- the name and oid of rel (another oid after a restore) and column_numbers, all as watch() found them: see _renames
  declared_as text not null,
  declared_oid oid not null,
  declared_columns jsonb not null,
  created_at timestamptz not null default pg_catalog.clock_timestamp(),
  unique (rel, target)
);

-- Declarations whose table was dropped, by its names (when declared, and when dropped). A table of such a name counts as unwatched
-- until watch() or refresh(): see unwatched().
create table cache_invalidation.dropped_watches (
  rel_name text,
  target text,
  columns text[],
  min_interval interval,
  join_clause text,
  primary key (rel_name, target)
);

-- The only truth about what must still be invalidated: one row for each target and statement.
-- Rows are claimed in the order (xid, id): docs/protocol.md#outbox-and-claims. The id only tells the rows of one transaction apart.
-- It may start again, as it does after a restore, and must be positive. There is no foreign key to watches, because all
-- writers would share its lock on the watch's row.
create table cache_invalidation.outbox (
  xid xid8 not null default pg_catalog.pg_current_xact_id(),
  id bigint generated always as identity (cache 32),
  written_at timestamptz not null default pg_catalog.clock_timestamp(),
  -- null when by hand
  watch_id integer,
  -- i, u, d, t; null when by hand
  op "char",
  -- the SQLSTATE of the error that widened the target to its type's wildcard; otherwise null
  error text,
  target text collate "C" not null,
  primary key (xid, id)
)
with (
  -- Rows live for milliseconds. So vacuum counts rows instead of shares of the table, and never pauses. It does not truncate:
  -- giving pages back takes a lock that writers would wait for.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 1000000,
  vacuum_truncate = false
);

-- Throttled targets, those with a min_interval: when each ran last and whether it must run again. _throttled lists the states
-- and what due_at means in each.
create table cache_invalidation.deferred (
  target text collate "C" primary key,
  -- for people: whose event waits, or ran last
  watch_id integer,
  -- when it ran last, or was handed to a worker to be run
  ran_at timestamptz not null default pg_catalog.clock_timestamp(),
  -- the shortest one of the events that wait, or else of those that ran last
  min_interval interval not null default '0',
  due_at timestamptz not null,
  -- an event came that no run has seen
  waiting boolean not null default false,
  -- the call of due() that handed the target to a worker and is not confirmed yet
  run uuid,
  -- when the oldest event that waits was written
  since timestamptz
)
with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false);

-- The first two hold only targets that must run; those that only wait to be forgotten may be many. The second finds what a clock
-- that stepped back has left in the future.
create index deferred_due on cache_invalidation.deferred (due_at) where waiting or run is not null;
create index deferred_ahead on cache_invalidation.deferred (ran_at) where waiting or run is not null;
create index deferred_rested on cache_invalidation.deferred (due_at) where not waiting and run is null;

-- What has left the outbox and is not confirmed yet: targets that Redis refused, patterns to be swept, and second deletions for
-- loaders on replicas. What acknowledges a row of the outbox puts its target here in the same statement. The version is the
-- transaction that wrote the row last, so a merge raises it, and none returns. A confirmation deletes only the version that was
-- read before its DEL was sent. docs/protocol.md#pending
create table cache_invalidation.pending (
  id bigint generated always as identity primary key,
  target text not null,
  -- a target may be too long for an index
  digest bytea generated always as (pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace(target, '\', '\\'), 'escape'))) stored unique,
  why text not null check (why in ('refused', 'sweep', 'second delete', 'second sweep')),
  due_at timestamptz not null,
  version xid8 not null default pg_catalog.pg_current_xact_id(),
  -- when the oldest event was put here
  since timestamptz not null default pg_catalog.clock_timestamp(),
  -- how often Redis has refused it here, and the code of the last refusal
  attempts integer not null default 0,
  code text,
  -- a dead letter: it stays, and is not tried again before "fencepost retry" or the target's next event
  failed_at timestamptz,
  -- where a sweep continues
  state jsonb
)
with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false);

create index pending_due on cache_invalidation.pending (due_at) where failed_at is null;

-- The cache's epoch: entries stored under another one are never a hit. Random, so that it cannot return by itself.
create table cache_invalidation.epoch (
  singleton boolean primary key default true check (singleton),
  value text not null,
  started_at timestamptz not null default pg_catalog.clock_timestamp()
);
insert into cache_invalidation.epoch (value)
values (pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''));
