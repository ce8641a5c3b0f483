-- Fencepost: the tables. Everything Fencepost keeps in your database lives in this schema. docs/architecture.md has the picture,
-- docs/protocol.md the proofs. The files are to be read in their order.

create schema cache_invalidation;
comment on schema cache_invalidation is
  'Fencepost: what must be invalidated in the cache. Never expose this schema through an API.';

-- The worker's role has the least rights that the worker needs; grant it to the login role the worker connects as.
-- (The role is shared by all databases of a server, so it may exist already.)
do $$
begin
  create role fencepost_worker nologin;
exception
  when duplicate_object or unique_violation then null;
end
$$;

-- One step of a join, from a changed row (alias `row`) or an earlier step to the one row of a parent that its key names.
create type cache_invalidation.hop as (
  parent regclass,
  alias text,
  parent_columns text[],
  -- pairwise with parent_columns: whose columns name the parent
  child_aliases text[],
  child_columns text[]
);

-- What is watched. For people and for `fencepost doctor`; only watch(), unwatch() and refresh() write it.
create table cache_invalidation.watches (
  id integer generated always as identity primary key,
  rel regclass not null,
  target text not null,
  columns text[],
  min_interval interval check (min_interval > interval '0'),
  -- for people: hops as text
  join_clause text,
  hops cache_invalidation.hop[] not null default '{}',
  -- declared by the name of a foreign key: see followed_hops()
  foreign_key name,
  -- the watch whose join reads this table, for which this one captures the parent's own changes; null: declared with watch()
  implied_by integer references cache_invalidation.watches on delete cascade,
  -- the table and the number of each of its columns in the declaration, as watch() found them: see swapped()
  declared_as text not null,
  -- what the table was called when last seen
  known_as text not null,
  declared_oid oid not null,
  declared_columns jsonb not null,
  declared_join text,
  -- two watches may exchange their targets with the names of their columns
  unique nulls not distinct (rel, target, implied_by) deferrable
);
create index watches_implied_by on cache_invalidation.watches (implied_by) where implied_by is not null;

-- Declarations whose table was dropped, by its names (when declared, and when dropped). A table of such a name counts as unwatched
-- until watch() or refresh(): see unwatched().
create table cache_invalidation.dropped_watches (
  rel_name text,
  target text,
  columns text[],
  min_interval interval,
  join_clause text,
  foreign_key name,
  primary key (rel_name, target)
);

-- A catalog row that capture stands on: see catalog_snapshot().
create type cache_invalidation.catalog_row as (kind "char", rel oid, object oid, number smallint, row_version xid);

-- The catalog rows that capture of a table stands on, as they were when all was in line. Other ones say that a gap may have opened since,
-- even if it is closed by now. The last snapshot of a table counts, because DDL would wait for a row that another session's has updated.
create table cache_invalidation.catalog_snapshots (
  -- 0: the event triggers
  rel regclass,
  id bigint generated always as identity,
  at timestamptz not null default pg_catalog.clock_timestamp(),
  -- Empty: DDL that concerns the table could not be followed. Null: this transaction is in bring_in_line(), whose DDL needs no event
  -- trigger. (No other role can write a row, as it could a setting.)
  catalog_rows cache_invalidation.catalog_row[],
  primary key (rel, id)
);
create index catalog_snapshots_own_ddl on cache_invalidation.catalog_snapshots (rel) where catalog_rows is null;

-- A column that a version reads, as the catalog had it.
create type cache_invalidation.read_column as (
  -- empty: the watched table itself
  alias text,
  rel oid,
  number smallint,
  name name,
  type oid,
  row_version xid,
  -- see column_meaning()
  meaning text,
  -- false: only compared, as `columns` asks
  is_key boolean
);

-- What each capture function was generated for: one row for each declaration of its table. A change names the version it was
-- written under, so it is read as it was meant. Nothing but `retired` and `written` is ever changed, and a version is kept as long as a change
-- may name it. Ids are random, so that a restored or emptied table makes none again. docs/protocol.md#outbox-and-claims
create table cache_invalidation.versions (
  id bigint,
  place smallint,
  rel regclass not null,
  function name not null,
  watch_id integer not null,
  target text not null,
  columns text[],
  hops cache_invalidation.hop[] not null,
  reads cache_invalidation.read_column[] not null,
  -- gives the targets of changes: see target_query(). Null: the declaration cannot be served, and gives its type's wildcard. The queries
  -- of a version are in a function, target_function(), because that keeps their plans; EXECUTE would make them at every claim.
  query text,
  problem text,
  -- what made it: see engine()
  engine text not null,
  -- with the first declaration: what the functions were when they were written, see functions_now()
  written text,
  -- the order in which they were made, and the transaction that made the next one of this table
  made bigint generated always as identity,
  retired xid8,
  primary key (id, place)
);
create index versions_rel on cache_invalidation.versions (rel, made);
create index versions_present on cache_invalidation.versions (rel) where retired is null;
create index versions_watch on cache_invalidation.versions (id, watch_id);

create type cache_invalidation.outbox_target as (written_at timestamptz, op "char", target text);

-- The only truth about what must still be invalidated: one row for each changed row of a watched table. People read the view
-- outbox, which shows targets. There is no foreign key to versions, because all writers would share its lock.
create table cache_invalidation.changes (
  xid xid8 not null default pg_catalog.pg_current_xact_id(),
  at timestamptz not null default pg_catalog.clock_timestamp(),
  -- null: by hand
  version bigint,
  -- What happened, and the columns that keys are made of, as SQL literals, with \x01 between: i, new…; d, old…; u, new…, old…; and behind
  -- them the bits of the declarations that an update concerns, where one of them has `columns`. t: TRUNCATE. e, SQLSTATE, operation: the
  -- columns could not be read. By hand: the target. (One text, because each column costs a writer 2 000 instructions, and an array more.)
  change text collate "C"
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
create index changes_xid on cache_invalidation.changes (xid);
-- A publication `for all tables` publishes its deletions. Without a key, Postgres would refuse them, and nothing could be acknowledged.
alter table cache_invalidation.changes replica identity full;

-- What has left the outbox and is not confirmed yet: targets that ran too recently (min_interval), that Redis refused, patterns to be
-- swept, and second deletions for loaders on replicas. What acknowledges a transaction puts its targets here in the same
-- statement. The version is the transaction that wrote the row last, so a merge raises it, and none returns. A confirmation
-- deletes only the version that was read before its DEL was sent. docs/protocol.md#pending
create table cache_invalidation.pending (
  id bigint generated always as identity primary key,
  target text not null,
  -- a target may be too long for an index
  digest bytea generated always as (pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace(target, '\', '\\'), 'escape'))) stored unique,
  why text not null check (why in ('throttled', 'refused', 'sweep', 'second delete', 'second sweep')),
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

create index pending_due on cache_invalidation.pending (due_at) where failed_at is null and why <> 'throttled';
create index pending_throttled on cache_invalidation.pending (due_at) where failed_at is null and why = 'throttled';
-- finds those from before the clock stepped back, which do not wait for the size of the step
create index pending_since on cache_invalidation.pending (since) where failed_at is null and why = 'throttled';

-- The cache's epoch: entries stored under another one are never a hit. Random, so that it cannot return by itself.
create table cache_invalidation.epoch (
  singleton boolean primary key default true check (singleton),
  value text not null default pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''),
  -- when a worker last said that it delivers
  confirmed_at timestamptz,
  -- since when pause() keeps writes from being captured
  paused_at timestamptz
);
insert into cache_invalidation.epoch default values;
