-- Fencepost 5/9, part 1: the queries of a capture function, which give the targets of the rows that a statement changed.
-- They read FROM items named by their caller: transition tables, the row of a row trigger, or (to plan them) a null row.

-- How many distinct targets a statement may name before they become one wildcard.
create function cache_invalidation.target_limit() returns integer
language sql immutable parallel safe
return 1000;

-- Whether an ordinary table has inheritance children; keys and foreign keys of the table do not bind them.
create function cache_invalidation.has_inheritance_children(rel regclass) returns boolean
language sql stable
return exists (
  select from pg_inherits as i join pg_class as c on c.oid = i.inhparent
  where i.inhparent = rel and c.relkind = 'r'
);

-- Whether a changed row without its parent may be ignored, because the parent's own change names the target as early. That is so when
-- the parent is watched for the same target, the child has no column in it, and the join is an immediate foreign key of one
-- column. Then a parent is missing only if this transaction deletes it or changes its key. (Without a foreign key another
-- transaction may write a child before its parent.) Further conditions:
--
--   the parent's watch counts a change of that key
--   the parent is no partitioned table, nor a part of the one that the foreign key is to    such a key is checked in a newer snapshot
--                                                                         than the join reads in repeatable read
--   no inheritance children of the child  they have no foreign key
--   key columns of the same type, with an equality of Postgres's own, or integers    the join, whose search_path is pg_catalog,
--                                         means another equality than the foreign key for citext
--
-- The writer's session may suspend foreign keys as well: see join_sql.
create function cache_invalidation.parent_covers(w cache_invalidation.watches) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select pg_catalog.count(*) = 1
    and not exists (select from cache_invalidation.template_segments(w.target) as s where s.col is not null and s.alias is null)
    and pg_catalog.bool_and(
      exists (select from pg_catalog.pg_class as c where c.oid = j.rel and c.relkind = 'r')
      and exists (
        select from pg_catalog.pg_constraint as f
        join pg_catalog.pg_attribute as child on child.attrelid = f.conrelid and child.attnum = f.conkey[1]
        join pg_catalog.pg_attribute as parent on parent.attrelid = f.confrelid and parent.attnum = f.confkey[1]
        join cache_invalidation.watches as covering on covering.rel = j.rel and covering.join_clause is null
          and covering.target = pg_catalog.replace(w.target, '{' || j.alias || '.', '{')
        where f.contype = 'f' and f.conrelid = w.rel and f.confrelid = j.rel
          and pg_catalog.cardinality(f.conkey) = 1 and f.convalidated and not f.condeferrable and f.conparentid = 0
          and (covering.min_interval is null or covering.min_interval <= w.min_interval)
          and (covering.columns is null
            or parent.attname = any (cache_invalidation.named_columns(covering.target, covering.columns, null)))
          and (child.atttypid = parent.atttypid and child.attcollation = parent.attcollation
            or child.atttypid = any (integers) and parent.atttypid = any (integers))
          and exists (select from pg_catalog.pg_operator as o where o.oid = f.conpfeqop[1] and o.oprnamespace = 'pg_catalog'::regnamespace)
          and (
            select pg_catalog.string_agg(t.token, '' order by t.place) from cache_invalidation.join_tokens(j.condition) as t where t.token !~ '^\s$'
          ) in (
            pg_catalog.format('%I.%I="row".%I', j.alias, parent.attname, child.attname),
            pg_catalog.format('"row".%I=%I.%I', child.attname, j.alias, parent.attname))
      )
    )
    and not cache_invalidation.has_inheritance_children(w.rel)
  from cache_invalidation.join_tables(w.join_clause) as j, (select '{int2,int4,int8}'::regtype[]::oid[]) as known(integers)
$$;

-- The join as SQL, with a condition at its end where parent_covers(). A changed row without its parent widens the target, unless the
-- parent covers it. In a session that enforces no foreign keys it never does.
create function cache_invalidation.join_sql(w cache_invalidation.watches) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(pg_catalog.string_agg(pg_catalog.format(' left join %s as %I on (%s)', j.rel, j.alias, j.condition), '' order by j.place), '')
    || case when w.join_clause is not null and cache_invalidation.parent_covers(w) then
      pg_catalog.format(' where %I.tableoid is not null or current_setting(''session_replication_role'') = ''replica''', pg_catalog.min(j.alias)) else '' end
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
--   one_*    the target of the only row; of many rows, several targets or none. one_update gives NULL when its key columns changed (then its old target counts too)
--            and, with `columns`, when nothing that the watch depends on changed, which it gives as a second value. Compared as images (*<>): equality is
--            too weak (1.0 = 1.00, citext) and some types have none.
--   many_*   the distinct targets of any number of rows, distinct key columns first: encoding costs more than hashing.
--
-- With `columns`, an update counts only for rows whose projection (key columns, named columns, primary key) differs
-- between old and new. Transition tables do not pair an old row with its new one, so the two multisets of
-- projections are compared; as text, for the same reason; the function's settings keep that text exact. Without a primary
-- key two rows may exchange their values, and the multisets stay the same: then the whole row is the projection.
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
  keys_of_new constant text := coalesce(cache_invalidation.column_list(key_columns, 'n'), 'null as none');
  keys_of_old constant text := coalesce(cache_invalidation.column_list(key_columns, 'o'), 'null as none');
  projected text[] := cache_invalidation.named_columns(w.target, w.columns, w.join_clause);
  -- a name that no key column has
  projection_name constant text := (
    select pg_catalog.min(free.name)
    from (
      select 'projection_' || i as name from pg_catalog.generate_series(0, pg_catalog.cardinality(key_columns)) as i
      except select k.name from pg_catalog.unnest(key_columns) as k(name)
    ) as free);
  projection_of_old text;
  projection_of_new text;
  has_primary_key constant boolean := exists (select from pg_catalog.pg_index as i where i.indrelid = w.rel and i.indisprimary)
    and not cache_invalidation.has_inheritance_children(w.rel);
  same_keys text;
  changed text;
  -- One more distinct key than the limit is as good as all of them, as long as no two keys have the same target, or that target is
  -- the wildcard. A join may map many keys to one target; so may a NULL, which hides the columns after it: with
  -- one or two columns only the last of them, or all.
  at_most constant text := ' limit ' || cache_invalidation.target_limit() + 1;
  enough constant text := case when w.join_clause is null and pg_catalog.cardinality(key_columns) <= 2 then at_most else '' end;
  -- The plan is kept, and made for as many rows as the session's first statement changed: a million of them squared would
  -- make every later plan for one row a bad one. With a left join two rows give two or more. Where the parent covers they may give one, or
  -- none of many pairs: there the only row is read, and none of several.
  any_two constant text := case
    when w.row_level then '%s'
    when w.join_clause is not null and cache_invalidation.parent_covers(w) then '(select * from %1$s as r where not exists (select from %1$s as s offset 1) limit 1)'
    else '(select * from %s as r limit 2)'
    end;
  one_old constant text := case when w.join_clause is null then old_rows else pg_catalog.format(any_two, old_rows) end;
  one_new constant text := case when w.join_clause is null then new_rows else pg_catalog.format(any_two, new_rows) end;
  at_most_two constant text := case when w.join_clause is null then ' limit 2' else '' end;
  -- With a join, the columns it uses may have an equality that is coarser than what they join to (citext, 1.0 = 1.00).
  one_each constant text := case when w.join_clause is null then 'distinct ' else '' end;
  combined constant text := case when w.join_clause is null then 'union' else 'union all' end;
begin
  one_insert := pg_catalog.format('select %s from %s as "row"%s%s', expression, one_new, join_sql, at_most_two);
  one_delete := pg_catalog.format('select %s from %s as "row"%s%s', expression, one_old, join_sql, at_most_two);
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
  one_update := pg_catalog.format('select %s%s from %s as "before", %s as "row"%s%s',
    case when coalesce(same_keys, changed) is null then expression
      else pg_catalog.format('case when %s then %s end', pg_catalog.concat_ws(' and ', same_keys, changed), expression) end,
    ', ' || changed, one_old, one_new, join_sql, at_most_two);

  many_insert := pg_catalog.format('select distinct %s from (select %s%s from %s as n%s) as "row"%s%s', expression, one_each, keys_of_new, new_rows, enough, join_sql, at_most);
  many_delete := pg_catalog.format('select distinct %s from (select %s%s from %s as o%s) as "row"%s%s', expression, one_each, keys_of_old, old_rows, enough, join_sql, at_most);
  if w.columns is null then
    many_update := pg_catalog.format('select distinct %s from (select %s from %s as o %s select %s from %s as n%s) as "row"%s%s',
      expression, keys_of_old, old_rows, combined, keys_of_new, new_rows, enough, join_sql, at_most);
  else
    if has_primary_key then
      projected := array(
        select pg_catalog.unnest(projected)
        union
        select a.attname::text
        from pg_catalog.pg_index as i
        join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any (i.indkey::smallint[])
        where i.indrelid = w.rel and i.indisprimary);
    end if;
    projection_of_old := pg_catalog.format('%s, %s::text as %I', keys_of_old,
      case when has_primary_key then pg_catalog.format('row(%s)', cache_invalidation.column_list(projected, 'o')) else 'row(o.*)' end, projection_name);
    projection_of_new := pg_catalog.format('%s, %s::text as %I', keys_of_new,
      case when has_primary_key then pg_catalog.format('row(%s)', cache_invalidation.column_list(projected, 'n')) else 'row(n.*)' end, projection_name);
    many_update := pg_catalog.format('select distinct %1$s from ('
      '(select %2$s from %3$s as o except all select %4$s from %5$s as n) union all '
      '(select %4$s from %5$s as n except all select %2$s from %3$s as o)) as "row"%6$s%7$s',
      expression, projection_of_old, old_rows, projection_of_new, new_rows, join_sql, at_most);
  end if;
end
$$;
