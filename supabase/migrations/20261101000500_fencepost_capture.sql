-- Fencepost 5/9: capture. Each watch has a trigger function of its own, cache_invalidation.capture_<id>(), written by
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
-- - It is SECURITY DEFINER with an empty search_path: writers need no right on this schema, and cannot redirect it.
-- - It only inserts rows of its own and takes K shared with try; neither waits for anybody.
--
-- Partitioned tables, inheritance children and tables fed by logical replication need row triggers, because writes
-- reach them by ways that fire no statement trigger of theirs. The same text serves both: a row trigger reads
-- (select new.*) where a statement trigger reads new_rows.

-- How many distinct targets a statement may name before they become one wildcard.
create function cache_invalidation.target_limit() returns integer
language sql immutable parallel safe
return 1000;

-- The join as SQL. A changed row whose parent is missing widens the target (left join), unless the parent table is
-- itself watched for the same target: then the parent's own change has already named it, and the row adds nothing.
create function cache_invalidation.join_sql(w cache_invalidation.watches) returns text
language plpgsql stable
set search_path = ''
as $$
declare
  part record;
  sql text := '';
  covered boolean;
begin
  select pg_catalog.count(*) = 1 and pg_catalog.bool_and(exists (
      select from cache_invalidation.watches as parent
      where parent.rel = j.rel and parent.join_clause is null
        and parent.target = pg_catalog.replace(w.target, '{' || j.alias || '.', '{')
    ))
    into covered
    from cache_invalidation.join_tables(w.join_clause) as j;
  for part in select j.* from cache_invalidation.join_tables(w.join_clause) as j order by j.place loop
    sql := sql || pg_catalog.format(E'\n    %s %s as %I on (%s)',
      case when covered then 'join' else 'left join' end, part.rel, part.alias, part.condition);
  end loop;
  return sql;
end
$$;

-- The rows whose targets changed, as the FROM item "row". With `columns`, an update counts only for rows whose
-- projection (key columns, the named columns, the primary key) differs between old and new. Statement triggers cannot
-- pair an old row with its new one, so the two multisets are compared. They are compared as text, because equality is
-- too weak (1.0 = 1.00, citext) and some types have none; the function's settings keep that text exact.
create function cache_invalidation.changed_rows_sql(w cache_invalidation.watches, old_rows text, new_rows text) returns text
language plpgsql stable
set search_path = ''
as $$
declare
  carried text;
  projection text;
begin
  select pg_catalog.string_agg(pg_catalog.quote_ident(c.name), ', ' order by c.name)
    into carried
    from pg_catalog.unnest(cache_invalidation.named_columns(w.target, null, w.join_clause)) as c(name);
  select pg_catalog.string_agg(pg_catalog.quote_ident(c.name), ', ' order by c.name)
    into projection
    from (
      select pg_catalog.unnest(cache_invalidation.named_columns(w.target, w.columns, w.join_clause)) as name
      union
      select a.attname::text
      from pg_catalog.pg_index as i
      join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any (i.indkey::smallint[])
      where i.indrelid = w.rel and i.indisprimary
    ) as c;
  carried := pg_catalog.concat_ws(', ', carried, pg_catalog.format('row(%s)::text', projection));
  return pg_catalog.format(
    E'(\n      (select %1$s from %2$s as o except all select %1$s from %3$s as n)\n      union all\n'
    '      (select %1$s from %3$s as n except all select %1$s from %2$s as o)\n    ) as "row"',
    carried, old_rows, new_rows);
end
$$;

-- The text of capture_<id>().
create function cache_invalidation.capture_body(w cache_invalidation.watches) returns text
language plpgsql stable
set search_path = ''
as $$
declare
  expression text := cache_invalidation.target_expression(w.target);
  join_sql text := cache_invalidation.join_sql(w);
  old_rows text := case when w.row_level then '(select old.*)' else 'old_rows' end;
  new_rows text := case when w.row_level then '(select new.*)' else 'new_rows' end;
  wildcard text := pg_catalog.quote_literal(cache_invalidation.type_wildcard(w.target));
  maximum integer := cache_invalidation.target_limit();
  of_update text;
begin
  if w.columns is null then
    of_update := pg_catalog.format(E'select %1$s\n    from %2$s as "row"%4$s\n    union\n    select %1$s\n    from %3$s as "row"%4$s',
      expression, old_rows, new_rows, join_sql);
  else
    of_update := pg_catalog.format(E'select distinct %s\n    from %s%s',
      expression, cache_invalidation.changed_rows_sql(w, old_rows, new_rows), join_sql);
  end if;
  return pg_catalog.format(
$body$
-- %1$s: %2$s
declare
  targets text[];
  failure text;
begin
  begin
    if tg_op = 'INSERT' then
      targets := array(select distinct %3$s
    from %5$s as "row"%6$s limit %8$s);
    elsif tg_op = 'UPDATE' then
      targets := array(%7$s limit %8$s);
    elsif tg_op = 'DELETE' then
      targets := array(select distinct %3$s
    from %4$s as "row"%6$s limit %8$s);
    else
      targets := array[%9$s];
    end if;
  exception
    when others then
      failure := sqlstate;
      targets := array[%9$s];
  end;
  if cardinality(targets) = 1 then
    insert into cache_invalidation.outbox (watch_id, op, error, target)
    values (%10$s, lower(left(tg_op, 1))::"char", failure, targets[1]);
  elsif cardinality(targets) < %8$s then
    if cardinality(targets) = 0 then
      return null;
    end if;
    insert into cache_invalidation.outbox (watch_id, op, target)
    select %10$s, lower(left(tg_op, 1))::"char", t.target from unnest(targets) as t(target);
  else
    insert into cache_invalidation.outbox (watch_id, op, target)
    values (%10$s, lower(left(tg_op, 1))::"char", %9$s);
  end if;
  if not pg_try_advisory_xact_lock_shared(cache_invalidation.doorbell_lock()) then
    perform cache_invalidation.ring();
  end if;
  return null;
end
$body$,
    w.rel, pg_catalog.regexp_replace(w.target, '\s', ' ', 'g'), expression, old_rows, new_rows, join_sql, of_update, maximum + 1, wildcard, w.id);
end
$$;

-- A partitioned table has row triggers, so a bulk statement leaves one outbox row for each of its rows. This one runs
-- after the statement and, when it was a large one, replaces the transaction's rows of this watch by their distinct
-- targets, or by the wildcard. (A large statement on a partition itself is not reduced.)
create function cache_invalidation.reduce_body(w cache_invalidation.watches) returns text
language plpgsql stable
set search_path = ''
as $$
begin
  return pg_catalog.format(
$body$
-- %1$s: %2$s
declare
  targets text[];
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
    returning o.target
  )
  select array_agg(m.target) into targets from (select distinct mine.target from mine) as m;
  if cardinality(targets) > %3$s then
    targets := array[%5$s];
  end if;
  insert into cache_invalidation.outbox (watch_id, op, target)
  select %4$s, lower(left(tg_op, 1))::"char", t.target from unnest(targets) as t(target);
  return null;
end
$body$,
    w.rel, pg_catalog.regexp_replace(w.target, '\s', ' ', 'g'), cache_invalidation.target_limit(), w.id, pg_catalog.quote_literal(cache_invalidation.type_wildcard(w.target)));
end
$$;
