-- Fencepost 6/9: what watch() refuses, each with the remedy. All checks raise; none changes anything.

-- Waits for tables no longer than lock_timeout, which is 3 s where it was unset; gives the setting as it was, for the caller to put
-- back (an error does so by itself). A table that one session waits for keeps its readers and writers waiting.
create function cache_invalidation.limit_waiting() returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  previous constant text := pg_catalog.current_setting('lock_timeout');
begin
  if previous = '0' then
    perform pg_catalog.set_config('lock_timeout', '3s', true);
  end if;
  return previous;
end
$$;

create function cache_invalidation.refuse_busy(w cache_invalidation.watches) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the table % is busy: no lock within %',
    w.rel || case when w.join_clause is null then '' else ', or one that it joins,' end, pg_catalog.current_setting('lock_timeout')
    using errcode = 'lock_not_available',
      hint = 'Nothing was changed. Try again at a quieter moment, or set lock_timeout higher; until then readers and writers may wait.';
end
$$;

-- Raises for a column that cannot be part of a key: its text must be canonical, and two values that compare equal must have the same
-- text.
create function cache_invalidation.check_renderable(rel regclass, col text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found_column record;
  base record;
  base_type oid;
  remedy constant text := 'Use a column of type text, uuid, an integer type, numeric, boolean, date, timestamp(tz), bytea or an enum, or add a stored generated column of such a type.';
begin
  select a.attnum, a.atttypid, a.attcollation, a.attgenerated into found_column
    from pg_catalog.pg_attribute as a
    where a.attrelid = rel and a.attname = col and a.attnum > 0 and not a.attisdropped;
  if not found then
    raise exception 'the table % has no column %', rel, pg_catalog.quote_ident(col)
      using errcode = 'undefined_column',
        hint = (
          select 'Its columns are ' || pg_catalog.string_agg(a.attname, ', ' order by a.attnum) || '.'
          from pg_catalog.pg_attribute as a where a.attrelid = rel and a.attnum > 0 and not a.attisdropped
        );
  end if;
  if found_column.attgenerated = 'v' then
    raise exception 'the column % of % is a virtual generated column', pg_catalog.quote_ident(col), rel
      using errcode = 'feature_not_supported',
        detail = 'Triggers do not see the values of virtual generated columns.', hint = 'Make it a stored one.';
  end if;
  base_type := found_column.atttypid;
  loop
    select t.oid, t.typname, t.typtype, t.typbasetype, t.typnamespace::regnamespace::text as namespace into base
      from pg_catalog.pg_type as t where t.oid = base_type;
    exit when base.typtype <> 'd';
    base_type := base.typbasetype;
  end loop;
  if base.typtype <> 'e' and not (base.namespace = 'pg_catalog' and base.typname in (
    'text', 'varchar', 'bpchar', 'name', 'uuid', 'int2', 'int4', 'int8', 'numeric', 'bool', 'date', 'timestamp', 'timestamptz', 'bytea'))
  then
    raise exception 'the column % of % cannot be part of a key: its type is %',
      pg_catalog.quote_ident(col), rel, pg_catalog.format_type(found_column.atttypid, null)
      using errcode = 'feature_not_supported',
        detail = 'Values of this type that mean the same can have different texts, so reader and trigger could disagree on the key.',
        hint = remedy;
  end if;
  -- no function takes it: anyenum does not, and there is no cast to anything else
  if base.typtype = 'e' and base.oid <> found_column.atttypid then
    raise exception 'the column % of % cannot be part of a key: its type is %, a domain over an enum',
      pg_catalog.quote_ident(col), rel, pg_catalog.format_type(found_column.atttypid, null)
      using errcode = 'feature_not_supported', hint = 'Use the enum itself, or: ' || remedy;
  end if;
  if exists (select from pg_catalog.pg_collation as c where c.oid = found_column.attcollation and not c.collisdeterministic) then
    raise exception 'the column % of % cannot be part of a key: its collation calls different texts equal',
      pg_catalog.quote_ident(col), rel
      using errcode = 'feature_not_supported', hint = remedy;
  end if;
end
$$;

-- Raises for a relation that cannot be watched, or that the caller may not watch.
create function cache_invalidation.check_relation(rel regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  relation record;
begin
  if rel is null then
    raise exception 'watch() needs a table' using errcode = 'null_value_not_allowed', hint = 'For example ''public.quotas''.';
  end if;
  select c.relkind, c.relpersistence, c.relowner, c.relnamespace, n.nspname into relation
    from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where c.oid = rel;
  if not found then
    raise exception 'the table with oid % does not exist', rel::oid using errcode = 'undefined_table';
  end if;
  if relation.relkind in ('v', 'm') then
    raise exception '% is a view', rel using errcode = 'wrong_object_type',
      detail = 'A write through a view changes its tables, and triggers fire there.',
      hint = 'Watch the tables that the view reads.';
  elsif relation.relkind = 'f' then
    raise exception '% is a foreign table', rel using errcode = 'wrong_object_type',
      detail = 'Writes made on the other server fire no trigger here.',
      hint = 'Install Fencepost in the database that holds the table.';
  elsif relation.relkind not in ('r', 'p') then
    raise exception '% is not a table', rel using errcode = 'wrong_object_type', hint = 'Only tables can be watched.';
  elsif relation.relpersistence = 't' then
    raise exception '% is a temporary table', rel using errcode = 'wrong_object_type',
      hint = 'Only permanent tables can be watched: what one session alone sees cannot be cached for others.';
  elsif relation.nspname in ('pg_catalog', 'information_schema', 'cache_invalidation') then
    raise exception '% belongs to the system', rel using errcode = 'wrong_object_type', hint = 'Watch a table of your own.';
  end if;
  if not pg_catalog.has_schema_privilege('cache_invalidation', 'create') then
    raise exception 'the role % may not create functions in the schema cache_invalidation', current_user
      using errcode = 'insufficient_privilege',
        hint = pg_catalog.format('Run watch() as %s.', (
          select n.nspowner::regrole from pg_catalog.pg_namespace as n where n.nspname = 'cache_invalidation'));
  end if;
  if not pg_catalog.pg_has_role(relation.relowner, 'usage') then
    raise exception 'the role % may not create triggers on %: it belongs to %', current_user, rel, relation.relowner::regrole
      using errcode = 'insufficient_privilege',
        hint = pg_catalog.format('Run watch() as a role that owns both, or: grant %s to %s;', relation.relowner::regrole, current_user);
  end if;
  if relation.relkind = 'r' and cache_invalidation.has_foreign_table_below(rel) then
    raise exception '% has a foreign table among its inheritance children', rel using errcode = 'feature_not_supported',
      detail = 'Postgres refuses writes that reach a foreign table below one whose triggers read the changed rows of a whole statement.',
      hint = pg_catalog.format('Make it a partitioned table, or take the foreign table out: alter foreign table … no inherit %s;', rel);
  end if;
  if relation.relpersistence = 'u' then
    raise notice '% is unlogged: a crash empties it without firing a trigger', rel
      using hint = 'Start a new epoch after a crash: select cache_invalidation.invalidate(''*'').';
  end if;
end
$$;

-- Raises for a joined table of which the schema's owner, as whom the capture functions run, may not see every row. (The watched
-- table's own rows come from the trigger, past all policies.)
create function cache_invalidation.check_visible(joined regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  reader text;
begin
  select r.rolname into reader
    from pg_catalog.pg_class as c, pg_catalog.pg_roles as r
    where c.oid = joined and c.relrowsecurity and not r.rolsuper and not r.rolbypassrls
      and r.oid = (select n.nspowner from pg_catalog.pg_namespace as n where n.nspname = 'cache_invalidation')
      and (c.relforcerowsecurity or not pg_catalog.pg_has_role(r.oid, c.relowner, 'usage'));
  if found then
    raise exception 'row level security hides rows of % from %, which owns the capture functions', joined, pg_catalog.quote_ident(reader)
      using errcode = 'insufficient_privilege',
        hint = pg_catalog.format('As a superuser: alter role %1$I bypassrls; or let %1$I own %2$s, without FORCE ROW LEVEL SECURITY.', reader, joined);
  end if;
end
$$;

-- With a join, the capture functions run code of the tables' owners as the schema's owner: casts of column types, functions in partial
-- indexes (while planning) and in views. Without a join they do not: keys have Postgres's own types, or are enums. So these owners are
-- trusted with the rights of the schema's owner. This warns of those that do not have them anyway. It refuses nothing, because
-- joins with the platform's tables (auth.users) are legitimate.
create function cache_invalidation.name_trusted_owners(w cache_invalidation.watches) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  trusted record;
begin
  for trusted in
    select c.oid::regclass as rel, c.relowner::regrole as owner, n.nspowner::regrole as rights
    from pg_catalog.pg_class as c, pg_catalog.pg_namespace as n
    where w.join_clause is not null and c.oid = any (w.rel || w.join_rels)
      and n.nspname = 'cache_invalidation' and not pg_catalog.pg_has_role(c.relowner, n.nspowner, 'member')
    order by c.oid::regclass::text
  loop
    raise warning '%, who owns %, can run code with the rights of %, who owns the capture functions', trusted.owner, trusted.rel, trusted.rights
      using detail = 'A join uses casts, indexes and views that the owner of a table can change.',
        hint = pg_catalog.format('If %s is not to be trusted with that: select cache_invalidation.unwatch(%L, %L); and watch without this join, or let %s own the table.',
          trusted.owner, w.rel, w.target, trusted.rights);
  end loop;
end
$$;

-- Checks everything about one declaration. The last step plans the capture query as the trigger will run it.
create function cache_invalidation.check_watch(w cache_invalidation.watches) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  part record;
  joined record;
  problem text;
begin
  perform cache_invalidation.check_relation(w.rel);
  if w.target = '*' then
    raise exception 'the target % would empty the whole cache at every write', pg_catalog.quote_literal(w.target)
      using errcode = 'invalid_parameter_value', hint = 'Name a type, for example quota:*.';
  -- as in supabase/functions/_shared/cache/protocol/key-types.ts
  elsif pg_catalog.split_part(w.target, ':', 1) in ('fence', 'fencepost') then
    raise exception 'the type % of the target % is reserved: the cache keeps its fences and its heartbeat there',
      pg_catalog.split_part(w.target, ':', 1), pg_catalog.quote_literal(w.target)
      using errcode = 'invalid_parameter_value', hint = 'Give the type another name, for example fences:{id}.';
  end if;
  for joined in select j.* from cache_invalidation.join_tables(w.join_clause) as j loop
    perform cache_invalidation.check_visible(joined.rel);
  end loop;
  -- reads the template to its end, and raises for a bad one
  for part in select s.* from cache_invalidation.template_segments(w.target) as s where s.col is not null loop
    if part.alias is null then
      perform cache_invalidation.check_renderable(w.rel, part.col);
    else
      select j.rel into joined from cache_invalidation.join_tables(w.join_clause) as j where j.alias = part.alias;
      if not found then
        raise exception 'the target % names the table alias %, which no join defines', pg_catalog.quote_literal(w.target), part.alias
          using errcode = 'invalid_parameter_value',
            hint = pg_catalog.format('Add join => ''public.parent %1$s on %1$s.id = row.parent_id''. A column with a point in its name is written {"%1$s.%2$s"}.', part.alias, part.col);
      end if;
      perform cache_invalidation.check_renderable(joined.rel, part.col);
    end if;
  end loop;
  if pg_catalog.cardinality(w.columns) = 0 then
    raise exception 'columns is empty' using errcode = 'invalid_parameter_value',
      hint = 'Leave it out (null) when every update counts.';
  end if;
  for part in
    select c.name, a.attgenerated
    from pg_catalog.unnest(w.columns) as c(name)
    left join pg_catalog.pg_attribute as a on a.attrelid = w.rel and a.attname = c.name and a.attnum > 0 and not a.attisdropped
    where a.attnum is null or a.attgenerated = 'v'
  loop
    -- raises: the column is missing, or virtual
    perform cache_invalidation.check_renderable(w.rel, part.name);
  end loop;
  begin
    perform cache_invalidation.plan_capture(w);
  exception
    when lock_not_available then
      perform cache_invalidation.refuse_busy(w);
    when insufficient_privilege or undefined_column or undefined_table or undefined_function or syntax_error
      or invalid_column_reference or ambiguous_column or datatype_mismatch or undefined_object
    then
      get stacked diagnostics problem = message_text;
      raise exception 'the watch of % for % cannot be planned: %', w.rel, pg_catalog.quote_literal(w.target), problem
        using errcode = sqlstate, hint = case
          when w.join_clause is null then pg_catalog.format('Check the rights of %s on the table and its types.', current_user)
          else pg_catalog.format('Check the join: its tables and columns, and the rights of %s on them.', current_user)
        end;
  end;
end
$$;

-- Plans the queries of the capture function without running them, with a null row of the table in place of the changed rows.
create function cache_invalidation.plan_capture(w cache_invalidation.watches) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
-- whoever may call watch() writes the join, and it is only explained: @plpgsql_check_options: security_warnings = false
declare
  rows_sql constant text := pg_catalog.format('(select (null::%s).*)', w.rel);
  query text;
begin
  for query in
    select q.value from pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(cache_invalidation.capture_queries(w, rows_sql, rows_sql))) as q
  loop
    execute 'explain ' || query;
  end loop;
end
$$;
