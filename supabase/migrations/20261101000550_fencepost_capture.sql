-- Fencepost 5/9, part 2: capture. Each watch has a trigger function of its own, cache_invalidation.capture_<id>(), written by
-- the functions below and replaced whenever the watch or its table changes. It runs in the writer's transaction:
--
--   1. read   the distinct targets of the old and new rows, from the statement's transition tables
--   2. write  one outbox row for each; more than 1 000 become the type's wildcard
--   3. ring   if the worker sleeps
--
-- It must never make the application's write fail, and never make it wait:
-- - Reading happens inside a block that catches every error, because a column may have been dropped, renamed or given
--   another type since the function was written. An error widens the target to the type's wildcard and leaves its
--   SQLSTATE in outbox.error for the worker and doctor to report. The block writes nothing, so it
--   costs no transaction id and no lock.
-- - It is SECURITY DEFINER, so writers need no right on this schema, and cannot redirect it: pg_catalog alone is in its
--   search_path, with pg_temp named last. An empty path would look types up in the writer's temporary schema first, and
--   a domain called `text` there would run its code with the owner's rights.
-- - It only inserts rows of its own and takes K shared with try; neither waits for anybody.
--
-- Most statements change one row and keep its key: they take a path that neither sorts nor hashes. SELECT INTO STRICT tells it
-- from the others. All of this is static SQL, planned once in each session.
--
-- Partitioned tables, inheritance children and tables fed by logical replication need row triggers, because writes
-- reach them by ways that fire no statement trigger of theirs. The same text serves both: a row trigger reads
-- (select new.*) where a statement trigger reads new_rows.

-- The assignment of targets for many rows. A very large statement is judged by its first rows when these alone exceed the
-- limit, so that a million different targets need not be sorted out. (Not with a join, where many keys may be one
-- target, nor with columns, where all rows have to be compared.)
create function cache_invalidation.many_step(w cache_invalidation.watches, rows text, query text, sample_query text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when w.row_level or w.join_clause is not null then pg_catalog.format(E'targets := array(%s);', query)
    else pg_catalog.format(
      E'perform from %1$s offset 10000 limit 1;\n        if found then\n          targets := array(%2$s);\n        end if;\n'
      '        if targets is null or cardinality(targets) < %4$s then\n          targets := array(%3$s);\n        end if;',
      rows, sample_query, query, cache_invalidation.target_limit() + 1)
  end
$$;

-- The text of capture_<id>().
create function cache_invalidation.capture_body(w cache_invalidation.watches) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  maximum constant integer := cache_invalidation.target_limit();
  queries record;
  sample record;
begin
  sample := cache_invalidation.capture_queries(w, '(select * from old_rows limit 10000)', '(select * from new_rows limit 10000)');
  queries := cache_invalidation.capture_queries(w,
    case when w.row_level then '(select old.*)' else 'old_rows' end,
    case when w.row_level then '(select new.*)' else 'new_rows' end);
  return pg_catalog.format(
$body$
-- %1$s: %2$s
#variable_conflict use_column
declare
  only_target text;
  changed boolean := true;
  targets text[];
  failure text;
begin
  begin
    if tg_op = 'UPDATE' then
      %3$s;
    elsif tg_op = 'INSERT' then
      %4$s;
    elsif tg_op = 'DELETE' then
      %5$s;
    else
      only_target := %9$s;
    end if;
  exception
    when no_data_found then
      %12$s;
    when too_many_rows then
      null;
    when others then
      failure := sqlstate;
      only_target := %9$s;
  end;
  if only_target is null then
    -- several rows, or one that moved
    if not changed then
      return null;
    end if;
    begin
      if tg_op = 'UPDATE' then
        %6$s
      elsif tg_op = 'INSERT' then
        %7$s
      else
        %8$s
      end if;
      if cardinality(targets) = 0 then
        return null;
      elsif cardinality(targets) = %10$s then
        targets := array[%9$s];
      end if;
    exception
      when others then
        failure := sqlstate;
        targets := array[%9$s];
    end;
    insert into cache_invalidation.outbox (watch_id, op, error, target)
    select %11$s, translate(left(tg_op, 1), 'IUDT', 'iudt')::"char", failure, t.target from unnest(targets) as t(target);
  else
    insert into cache_invalidation.outbox (watch_id, op, error, target)
    values (%11$s, translate(left(tg_op, 1), 'IUDT', 'iudt')::"char", failure, only_target);
  end if;
  if not pg_try_advisory_xact_lock_shared(cache_invalidation.doorbell_lock()) then
    perform cache_invalidation.ring();
  end if;
  return null;
end
$body$,
    -- a line break in a name must not end the comment
    pg_catalog.regexp_replace(w.rel::text, '\s', ' ', 'g'), pg_catalog.regexp_replace(w.target, '\s', ' ', 'g'),
    -- INTO goes behind the select list, which ends at the first "from" outside of it: put it in front
    pg_catalog.regexp_replace(queries.one_update, '^select', case when w.columns is null then 'select into strict only_target' else 'select into strict only_target, changed' end),
    pg_catalog.regexp_replace(queries.one_insert, '^select', 'select into strict only_target'),
    pg_catalog.regexp_replace(queries.one_delete, '^select', 'select into strict only_target'),
    case when w.columns is null then cache_invalidation.many_step(w, 'new_rows', queries.many_update, sample.many_update)
      else pg_catalog.format('targets := array(%s);', queries.many_update) end,
    cache_invalidation.many_step(w, 'new_rows', queries.many_insert, sample.many_insert),
    cache_invalidation.many_step(w, 'old_rows', queries.many_delete, sample.many_delete),
    pg_catalog.quote_literal(cache_invalidation.type_wildcard(w.target)), maximum + 1, w.id,
    -- where a missing parent drops the row, the other of old and new may still have one
    case when cache_invalidation.parent_covers(w) then 'null' else 'return null' end);
end
$$;

-- A partitioned table has row triggers, so a bulk statement leaves one outbox row for each of its rows. This one runs
-- after the statement and, when it was a large one, replaces the transaction's rows of this watch by their distinct
-- targets, or by the wildcard, each with an error that one of its rows had. (A large statement on a partition itself is not
-- reduced.) An error of its own leaves the rows as they are: too many, but right.
create function cache_invalidation.reduce_body(w cache_invalidation.watches) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return pg_catalog.format(
$body$
-- %1$s: %2$s
#variable_conflict use_column
declare
  targets text[];
  failures text[];
begin
  if tg_op = 'DELETE' then
    perform from old_rows offset %3$s limit 1;
  else
    perform from new_rows offset %3$s limit 1;
  end if;
  if not found then
    return null;
  end if;
  with mine as (
    delete from cache_invalidation.outbox as o
    where o.xid = pg_current_xact_id() and o.watch_id = %4$s
    returning o.target, o.error
  ), reduced as (
    select mine.target, max(mine.error) as error from mine group by mine.target
  )
  select array_agg(r.target), array_agg(r.error) into targets, failures from reduced as r;
  if cardinality(targets) > %3$s then
    targets := array[%5$s];
    failures := array[(select max(f.error) from unnest(failures) as f(error))];
  end if;
  insert into cache_invalidation.outbox (watch_id, op, error, target)
  select %4$s, translate(left(tg_op, 1), 'IUDT', 'iudt')::"char", t.error, t.target from unnest(targets, failures) as t(target, error);
  return null;
exception
  when others then
    return null;
end
$body$,
    -- a line break in a name must not end the comment
    pg_catalog.regexp_replace(w.rel::text, '\s', ' ', 'g'), pg_catalog.regexp_replace(w.target, '\s', ' ', 'g'),
    cache_invalidation.target_limit(), w.id, pg_catalog.quote_literal(cache_invalidation.type_wildcard(w.target)));
end
$$;
