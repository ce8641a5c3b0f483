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
-- - It is SECURITY DEFINER with pg_catalog alone in its search_path, pg_temp named last: an empty path would look types up in
--   the writer's temporary schema first, and a domain of its own called `text` would run its code with the owner's rights. writers need no right on this schema, and cannot redirect it.
-- - It only inserts rows of its own and takes K shared with try; neither waits for anybody.
--
-- Most statements change one row and keep its key: they take a path that neither sorts nor hashes. SELECT INTO STRICT tells it
-- from the others. All of this is static SQL, planned once in each session.
--
-- Partitioned tables, inheritance children and tables fed by logical replication need row triggers, because writes
-- reach them by ways that fire no statement trigger of theirs. The same text serves both: a row trigger reads
-- (select new.*) where a statement trigger reads new_rows.

-- How many distinct targets a statement may name before they become one wildcard.
create function cache_invalidation.target_limit() returns integer
language sql immutable parallel safe
return 1000;

-- Whether a row without its parent adds nothing, because the parent's own change has already named the target: the parent
-- is watched for the same target, and an immediate foreign key is the join. Then a parent can only be missing because this
-- transaction deletes it. (Without a foreign key a child may be written before its parent, by another transaction.)
create function cache_invalidation.parent_covers(w cache_invalidation.watches) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select pg_catalog.count(*) = 1 and pg_catalog.bool_and(
    exists (
      select from cache_invalidation.watches as parent
      where parent.rel = j.rel and parent.join_clause is null
        and parent.target = pg_catalog.replace(w.target, '{' || j.alias || '.', '{')
    )
    and exists (
      select from pg_catalog.pg_constraint as f
      join pg_catalog.pg_attribute as child on child.attrelid = f.conrelid and child.attnum = f.conkey[1]
      join pg_catalog.pg_attribute as parent on parent.attrelid = f.confrelid and parent.attnum = f.confkey[1]
      where f.contype = 'f' and f.conrelid = w.rel and f.confrelid = j.rel
        and pg_catalog.cardinality(f.conkey) = 1 and f.convalidated and not f.condeferrable
        and pg_catalog.regexp_replace(j.condition, '\s', '', 'g') in (
          pg_catalog.format('%I.%I="row".%I', j.alias, parent.attname, child.attname),
          pg_catalog.format('"row".%I=%I.%I', child.attname, j.alias, parent.attname))
    ))
  from cache_invalidation.join_tables(w.join_clause) as j
$$;

-- The join as SQL. A changed row whose parent is missing widens the target (left join), unless parent_covers().
create function cache_invalidation.join_sql(w cache_invalidation.watches) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(pg_catalog.string_agg(pg_catalog.format(' %s %s as %I on (%s)',
    case when cache_invalidation.parent_covers(w) then 'join' else 'left join' end, j.rel, j.alias, j.condition), '' order by j.place), '')
  from cache_invalidation.join_tables(w.join_clause) as j
$$;

-- A list of columns of one row: "row".org_id, "row".provider
create function cache_invalidation.column_list(names text[], alias text default null) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select pg_catalog.string_agg(coalesce(alias || '.', '') || pg_catalog.quote_ident(n.name), ', ' order by n.name)
  from pg_catalog.unnest(names) as n(name)
$$;

-- The queries of a capture function; old_rows and new_rows are FROM items.
--
--   one_*    the target of the only row. one_update gives NULL when its key columns changed (then its old target counts too)
--            and, with `columns`, when nothing that the watch depends on changed, which it gives as a second value. Compared as images (*<>): equality is
--            too weak (1.0 = 1.00, citext) and some types have none.
--   many_*   the distinct targets of any number of rows, distinct key columns first: encoding costs more than hashing.
--
-- With `columns`, an update counts only for rows whose projection (key columns, named columns, primary key) differs
-- between old and new. Transition tables do not pair an old row with its new one, so the two multisets of
-- projections are compared; as text, for the same reason; the function's settings keep that text exact.
create function cache_invalidation.capture_queries(
  w cache_invalidation.watches, old_rows text, new_rows text,
  out one_insert text, out one_update text, out one_delete text, out many_insert text, out many_update text, out many_delete text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  expression constant text := cache_invalidation.target_expression(w.target);
  join_sql constant text := cache_invalidation.join_sql(w);
  key_columns constant text[] := cache_invalidation.named_columns(w.target, null, w.join_clause);
  keys constant text := coalesce(cache_invalidation.column_list(key_columns), 'null as none');
  projected constant text[] := cache_invalidation.named_columns(w.target, w.columns, w.join_clause);
  projection text;
  same_keys text;
  changed text;
  -- Without a join, one more distinct key than the limit is as good as all of them. (A join may map many keys to one
  -- target. Keys that a NULL widens to one group are counted apart: such a statement may collapse too early.)
  at_most constant text := ' limit ' || cache_invalidation.target_limit() + 1;
  enough constant text := case when w.join_clause is null then at_most else '' end;
  -- With a join, the columns it uses may have an equality that is coarser than what they join to (citext, 1.0 = 1.00).
  one_each constant text := case when w.join_clause is null then 'distinct ' else '' end;
  combined constant text := case when w.join_clause is null then 'union' else 'union all' end;
begin
  one_insert := pg_catalog.format('select %s from %s as "row"%s', expression, new_rows, join_sql);
  one_delete := pg_catalog.format('select %s from %s as "row"%s', expression, old_rows, join_sql);
  if key_columns <> '{}' then
    same_keys := case
      when w.join_clause is not null then pg_catalog.format('row(%s)::record *= row(%s)::record',
        cache_invalidation.column_list(key_columns, '"before"'), cache_invalidation.column_list(key_columns, '"row"'))
      -- the types of key columns all have an equality that agrees with their rendering
      else (
        select pg_catalog.string_agg(pg_catalog.format('"before".%1$I is not distinct from "row".%1$I', k.name), ' and ')
        from pg_catalog.unnest(key_columns) as k(name))
    end;
  end if;
  if w.columns is not null then
    changed := pg_catalog.format('row(%s)::record *<> row(%s)::record',
      cache_invalidation.column_list(projected, '"before"'), cache_invalidation.column_list(projected, '"row"'));
  end if;
  one_update := pg_catalog.format('select %s%s from %s as "before", %s as "row"%s',
    case when coalesce(same_keys, changed) is null then expression
      else pg_catalog.format('case when %s then %s end', pg_catalog.concat_ws(' and ', same_keys, changed), expression) end,
    ', ' || changed, old_rows, new_rows, join_sql);

  many_insert := pg_catalog.format('select distinct %s from (select %s%s from %s as r%s) as "row"%s%s', expression, one_each, keys, new_rows, enough, join_sql, at_most);
  many_delete := pg_catalog.format('select distinct %s from (select %s%s from %s as r%s) as "row"%s%s', expression, one_each, keys, old_rows, enough, join_sql, at_most);
  if w.columns is null then
    many_update := pg_catalog.format('select distinct %1$s from (select %2$s from %3$s as o %8$s select %2$s from %4$s as n%5$s) as "row"%6$s%7$s',
      expression, keys, old_rows, new_rows, enough, join_sql, at_most, combined);
  else
    select pg_catalog.format('%s, row(%s)::text', keys, cache_invalidation.column_list(pg_catalog.array_agg(p.name)))
      into projection
      from (
        select pg_catalog.unnest(projected) as name
        union
        select a.attname::text
        from pg_catalog.pg_index as i
        join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any (i.indkey::smallint[])
        where i.indrelid = w.rel and i.indisprimary
      ) as p;
    many_update := pg_catalog.format('select distinct %1$s from ('
      '(select %2$s from %3$s as o except all select %2$s from %4$s as n) union all '
      '(select %2$s from %4$s as n except all select %2$s from %3$s as o)) as "row"%5$s%6$s',
      expression, projection, old_rows, new_rows, join_sql, at_most);
  end if;
end
$$;

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
-- targets, or by the wildcard. (A large statement on a partition itself is not reduced.)
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
  select %4$s, translate(left(tg_op, 1), 'IUDT', 'iudt')::"char", t.target from unnest(targets) as t(target);
  return null;
end
$body$,
    -- a line break in a name must not end the comment
    pg_catalog.regexp_replace(w.rel::text, '\s', ' ', 'g'), pg_catalog.regexp_replace(w.target, '\s', ' ', 'g'), cache_invalidation.target_limit(), w.id, pg_catalog.quote_literal(cache_invalidation.type_wildcard(w.target)));
end
$$;
