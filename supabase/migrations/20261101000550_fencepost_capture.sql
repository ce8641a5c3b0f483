-- Fencepost 5/9, part 2: capture. Each watch has trigger functions of its own, cache_invalidation.capture_<id>_insert() and
-- so on, written by the functions below and replaced whenever the watch or its table changes. They run in the writer's transaction:
--
--   1. read   the distinct targets of the old and new rows, from the statement's transition tables
--   2. write  one outbox row for each; more than 1 000 become the type's wildcard
--   3. wake   NOTIFY, if the worker sleeps (_wakeup)
--
-- Promises (docs/protocol.md#capture): capture makes no write fail and no writer wait, and a writer cannot redirect it.
-- - Step 1 runs inside a block that catches every error, because a column may have been dropped, renamed or retyped since the
--   function was written. An error widens the target to the type's wildcard and leaves its SQLSTATE in outbox.error.
-- - The functions are SECURITY DEFINER with search_path = pg_catalog, pg_temp. The path must name pg_temp last: an empty path
--   looks types up in the writer's temporary schema first, and a domain `text` there would run with the owner's rights.
--
-- Most statements change one row and keep its key. They take a path that neither sorts nor hashes; SELECT INTO STRICT tells it from
-- the others. All of this is static SQL, planned once in each session.
--
-- Partitioned tables, inheritance children and tables fed by logical replication need row triggers, because some writes reach
-- them without firing their statement triggers. The same text serves both: a row trigger reads (select new.*) where a statement
-- trigger reads new_rows.

-- Up to so many rows are few. With a join their plan must look each parent up by its key, also for a session whose first
-- statement changed as many as are few: for hundreds it would read all parents.
create function cache_invalidation.few_rows(joined boolean) returns integer
language sql immutable parallel safe
return case when joined then 20 else 1000 end;

-- The assignment of targets for many rows.
--
-- A session keeps the plan that fits its first statement. So few rows and many rows have a query each; otherwise one bulk statement
-- would leave the session with hash joins and compiled code (JIT) for all small ones after it.
--
-- With a sample_query, a very large statement becomes a wildcard as soon as its first rows exceed the limit, so that a million
-- targets need not be sorted.
create function cache_invalidation.many_step(rows text, few_rows integer, few_query text, sample_query text, query text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select pg_catalog.format(
$step$perform from %s offset %s limit 1;
      if not found then
        targets := array(%s);
      else
        %stargets := array(%s);%s
      end if;$step$,
    rows, few_rows, few_query,
    case when sample_query is not null then pg_catalog.format(
$sample$perform from %s offset 10000 limit 1;
        if found then
          targets := array(%s);
        end if;
        if targets is null or cardinality(targets) < %s then
          $sample$, rows, sample_query, cache_invalidation.target_limit() + 1) end,
    query,
    case when sample_query is not null then E'\n        end if;' end)
$$;

-- The fast path: an update of one row that keeps its key. The key columns are read into variables, and their segments are encoded in
-- the INSERT's own expression. NULL for a watch with a join, named columns, row triggers, or no column in the target. Everything
-- else (several rows, a changed key, a NULL in the key, an error) takes the general path.
--
-- What it costs: docs/benchmarks.md.
create function cache_invalidation.keyed_update(
  w cache_invalidation.watches, out declarations text, out query text, out target text
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- a text collate "C" takes no other type silently but those that segment() takes as well
  select pg_catalog.string_agg(pg_catalog.format('%s text collate "C";', k.variable), ' ' order by k.place),
    -- Not a join by the key: of many rows, two of the pairs are enough to know that they are many. LIMIT says so to the planner: for
    -- the square of a large statement's rows it would have the plan compiled (JIT), which every later update would then pay.
    pg_catalog.format('select into strict %s case when %s then %s end%s from old_rows as "before", new_rows as "row" limit 2',
      pg_catalog.string_agg(k.variable, ', ' order by k.place),
      pg_catalog.string_agg(pg_catalog.format('"before".%1$I = "row".%1$I', k.name), ' and ' order by k.place),
      pg_catalog.min(k.reading) filter (where k.place = 1),
      pg_catalog.string_agg(', ' || k.reading, '' order by k.place) filter (where k.place > 1)),
    cache_invalidation.target_expression(w.target, pg_catalog.jsonb_object_agg(k.name, k.segment))
  from (
    select place, name, variable,
      case when plain then pg_catalog.format('"row".%I collate "C"', name)
        else pg_catalog.format('cache_invalidation.segment("row".%I)', name) end as reading,
      case when plain then pg_catalog.format(
          'case when octet_length(%1$s) > 200 or %1$s ~ ''[^A-Za-z0-9_.!''''()-]'' then cache_invalidation.segment(%1$s) else %1$s end',
          variable)
        else variable end as segment
    from (
      select n.place, n.name, 'key_' || n.place as variable,
        a.atttypid in ('text'::regtype, 'varchar'::regtype) as plain
      from pg_catalog.unnest(cache_invalidation.named_columns(w.target, null, null)) with ordinality as n(name, place)
      join pg_catalog.pg_attribute as a on a.attrelid = w.rel and a.attname = n.name
    ) as columns
  ) as k
  where w.join_clause is null and w.columns is null and not w.row_level
  having pg_catalog.count(*) > 0
$$;

-- The text of capture_<id>_<operation>(); operation is insert, update, delete or truncate.
create function cache_invalidation.capture_body(w cache_invalidation.watches, operation text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  maximum constant integer := cache_invalidation.target_limit();
  wildcard constant text := pg_catalog.quote_literal(cache_invalidation.type_wildcard(w.target));
  op constant text := pg_catalog.quote_literal(pg_catalog.left(operation, 1));
  rows constant text := case when operation = 'delete' then 'old_rows' else 'new_rows' end;
  -- where a missing parent drops the row, the other of old and new may still have one
  nothing_found text := case when w.join_clause is not null and cache_invalidation.parent_covers(w) then 'null' else 'return null' end;
  -- a line break in a name must not end the comment
  title constant text := pg_catalog.regexp_replace(pg_catalog.format('%s: %s', w.rel, w.target), '\s', ' ', 'g');
  queries record;
  few_rows constant integer := cache_invalidation.few_rows(w.join_clause is not null);
  few record;
  sample record;
  keyed record;
  -- not with a join, where many keys may be one target, nor where all rows have to be compared
  sampled constant boolean := w.join_clause is null and (w.columns is null or operation <> 'update');
  declarations text := 'only_target text;';
  one text;
  many text;
  failed text := pg_catalog.format(E'failure := sqlstate;\n      only_target := %s', wildcard);
  only_one text := 'only_target is not null';
  target text := 'only_target';
  unchanged text := '';
begin
  if operation = 'truncate' or cache_invalidation.has_no_transition_tables(w) then
    return pg_catalog.format(
$body$
-- %1$s
begin
  insert into cache_invalidation.outbox (watch_id, op, target) values (%2$s, %4$s, %3$s);
  if not pg_try_advisory_xact_lock_shared(cache_invalidation.doorbell_lock()) then
    perform cache_invalidation.ring();
  end if;
  return null;
end
$body$, title, w.id, wildcard, op);
  end if;

  queries := cache_invalidation.capture_queries(w,
    case when w.row_level then '(select old.*)' else 'old_rows' end,
    case when w.row_level then '(select new.*)' else 'new_rows' end);
  few := cache_invalidation.capture_queries(w,
    pg_catalog.format('(select * from old_rows limit %s)', few_rows),
    pg_catalog.format('(select * from new_rows limit %s)', few_rows));
  sample := cache_invalidation.capture_queries(w, '(select * from old_rows limit 10000)', '(select * from new_rows limit 10000)');
  -- INTO stands in front of the select list, whose end would be hard to find
  one := pg_catalog.regexp_replace(
    case operation when 'insert' then queries.one_insert when 'update' then queries.one_update else queries.one_delete end,
    '^select', 'select into strict only_target');
  many := case
    -- several rows are never in it: this is the one that moved
    when w.row_level then pg_catalog.format('targets := array(%s);',
      case operation when 'insert' then queries.many_insert when 'update' then queries.many_update else queries.many_delete end)
    when operation = 'insert' then cache_invalidation.many_step(rows, few_rows, few.many_insert, case when sampled then sample.many_insert end, queries.many_insert)
    when operation = 'delete' then cache_invalidation.many_step(rows, few_rows, few.many_delete, case when sampled then sample.many_delete end, queries.many_delete)
    else cache_invalidation.many_step(rows, few_rows, few.many_update, case when sampled then sample.many_update end, queries.many_update)
    end;
  if operation = 'update' then
    select k.* into keyed from cache_invalidation.keyed_update(w) as k;
    if keyed.query is not null then
      declarations := keyed.declarations;
      one := keyed.query;
      failed := 'null';
      only_one := 'key_1 is not null';
      target := keyed.target;
    elsif w.columns is not null then
      declarations := declarations || E'\n  changed boolean := true;';
      one := pg_catalog.regexp_replace(one, '^select into strict only_target', 'select into strict only_target, changed');
      unchanged := E'elsif not changed then\n    return null;\n  ';
    end if;
  end if;

  return pg_catalog.format(
$body$
-- %1$s
#variable_conflict use_column
declare
  %2$s
  targets text[];
  failure text;
begin
  begin
    %3$s;
  exception
    when no_data_found then
      %4$s;
    when too_many_rows then
      null;
    when others then
      %5$s;
  end;
  if %6$s then
    insert into cache_invalidation.outbox (watch_id, op, error, target)
    values (%7$s, %8$s, failure, %9$s);
  %10$selse
    -- several rows, or one that moved
    begin
      %11$s
      if cardinality(targets) = 0 then
        return null;
      elsif cardinality(targets) = %12$s then
        targets := array[%13$s];
      end if;
    exception
      when others then
        failure := sqlstate;
        targets := array[%13$s];
    end;
    insert into cache_invalidation.outbox (watch_id, op, error, target)
    select %7$s, %8$s, failure, t.target from unnest(targets) as t(target);
  end if;
  if not pg_try_advisory_xact_lock_shared(cache_invalidation.doorbell_lock()) then
    perform cache_invalidation.ring();
  end if;
  return null;
end
$body$,
    title, declarations, one, nothing_found, failed, only_one, w.id, op, target, unchanged, many, maximum + 1, wildcard);
end
$$;

-- A partitioned table has row triggers, so a bulk statement leaves one outbox row for each of its rows. This function runs after a
-- large statement and replaces the transaction's rows of this watch by their distinct targets, or by the wildcard. A large
-- statement on a partition itself is not reduced. On an error, and in a serializable transaction (where reading its own rows would
-- conflict with what others insert), the rows stay as they are: too many, but right.
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
  if current_setting('transaction_isolation') = 'serializable' then
    return null;
  end if;
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
