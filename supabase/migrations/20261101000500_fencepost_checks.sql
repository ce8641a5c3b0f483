-- Fencepost: what watch() refuses, each with the remedy. All checks raise; none changes anything or waits for a lock.

-- The first one that applies is raised. (Each check does so itself, so that the context of its error is short.)
create type cache_invalidation.refusal as (applies boolean, state text, message text, hint text);

-- Raises for a column that is not there or that triggers do not see; and where it is to be part of a key, unless its text is canonical, so
-- that two values that compare equal have the same text.
create function cache_invalidation.check_column(rel regclass, col text, is_key boolean) returns void language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  refused cache_invalidation.refusal;
  a record;
  remedy constant text := 'Use a column of type text, uuid, an integer type, numeric, boolean, date, timestamp(tz), bytea or an enum, '
    'or add a stored generated column of such a type.';
begin
  select found.atttypid, found.attgenerated = 'v' as is_virtual, not coalesce(c.collisdeterministic, true) as is_coarse,
      t.typtype = 'e' or t.typnamespace = 'pg_catalog'::regnamespace and t.typname in (
        'text', 'varchar', 'bpchar', 'name', 'uuid', 'int2', 'int4', 'int8', 'numeric', 'bool', 'date', 'timestamp', 'timestamptz', 'bytea') as has_text
    into a
    from pg_attribute as found
    join pg_type as t on t.oid = cache_invalidation.base_type(found.atttypid)
    left join pg_collation as c on c.oid = found.attcollation
    where found.attrelid = rel and found.attname = col and found.attnum > 0 and not found.attisdropped;
  foreach refused in array array[
    (not found, 'undefined_column', format('the table %s has no column %I', rel, col), (
      select 'Its columns are ' || string_agg(known.attname, ', ' order by known.attnum) || '.'
      from pg_attribute as known where known.attrelid = rel and known.attnum > 0 and not known.attisdropped)),
    (a.is_virtual, 'feature_not_supported', format('the column %I of %s is a virtual generated column', col, rel),
      'Triggers do not see the values of virtual generated columns. Make it a stored one.'),
    (is_key and not a.has_text, 'feature_not_supported', format('the column %I of %s cannot be part of a key: its type is %s', col, rel, format_type(a.atttypid, null)),
      'Values of this type that mean the same can have different texts, so reader and trigger could disagree on the key. ' || remedy),
    (is_key and a.is_coarse, 'feature_not_supported', format('the column %I of %s cannot be part of a key: its collation calls different texts equal', col, rel), remedy)
  ]::cache_invalidation.refusal[] loop
    if refused.applies then
      raise exception '%', refused.message using errcode = refused.state, hint = refused.hint;
    end if;
  end loop;
end
$$;

-- Whether an event trigger sees DDL, such as the REFRESH of a materialized view.
create function cache_invalidation.sees_ddl(triggers text[] default '{fencepost_ddl}') returns boolean language sql stable
set search_path = pg_catalog, pg_temp
return cardinality(triggers) = (select count(*) from pg_event_trigger as e where e.evtname = any (triggers) and e.evtenabled <> 'D');

-- Raises for a relation that cannot be watched, or that the caller may not watch.
create function cache_invalidation.check_relation(rel regclass) returns void language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  refused cache_invalidation.refusal;
  c record;
begin
  select found.relkind, found.relpersistence, found.relowner, n.nspname, pg_has_role(found.relowner, 'usage') as may_create_triggers into c
    from pg_class as found join pg_namespace as n on n.oid = found.relnamespace where found.oid = rel;
  foreach refused in array array[
    (rel is null, 'null_value_not_allowed', 'watch() needs a table', 'For example ''public.quotas''.'),
    (not found, 'undefined_table', format('the table with oid %s does not exist', rel::oid), 'It was dropped.'),
    (c.relkind = 'v', 'wrong_object_type', format('%s is a view', rel),
      'A write through a view changes its tables, and triggers fire there. Watch the tables that the view reads.'),
    (c.relkind = 'f', 'wrong_object_type', format('%s is a foreign table', rel),
      'Writes made on the other server fire no trigger here. Install Fencepost in the database that holds the table.'),
    (c.relkind not in ('r', 'p', 'm'), 'wrong_object_type', format('%s is not a table', rel), 'Only tables can be watched.'),
    (c.relpersistence = 't', 'wrong_object_type', format('%s is a temporary table', rel),
      'Only permanent tables can be watched: what one session alone sees cannot be cached for others.'),
    (c.nspname in ('pg_catalog', 'information_schema', 'cache_invalidation'), 'wrong_object_type', format('%s belongs to the system', rel), 'Watch a table of your own.'),
    (not has_schema_privilege('cache_invalidation', 'create'), 'insufficient_privilege',
      format('the role %s may not create functions in the schema cache_invalidation', current_user),
      format('Run watch() as %s.', (select n.nspowner::regrole from pg_namespace as n where n.nspname = 'cache_invalidation'))),
    (not c.may_create_triggers, 'insufficient_privilege', format('the role %s may not create triggers on %s: it belongs to %s', current_user, rel, c.relowner::regrole),
      format('Run watch() as a role that owns both, or: grant %s to %s; or keep what a key needs of it in a table of your own.', c.relowner::regrole, current_user)),
    (c.relkind = 'm' and not cache_invalidation.sees_ddl(), 'feature_not_supported',
      format('%s is a materialized view, and nothing would see when it is refreshed', rel),
      'select cache_invalidation.create_event_triggers(); as a role that may. Or watch the tables that it reads.')
  ]::cache_invalidation.refusal[] loop
    if refused.applies then
      raise exception '%', refused.message using errcode = refused.state, hint = refused.hint;
    end if;
  end loop;
  if c.relpersistence = 'u' then
    raise notice '% is unlogged: a crash empties it without firing a trigger', rel
      using hint = 'Start a new epoch after a crash: select cache_invalidation.invalidate(''*'').';
  end if;
end
$$;

-- The joined tables of which row level security hides rows from the schema's owner, as which claim() reads. (The watched table's own rows
-- come from the trigger, past all policies.)
create function cache_invalidation.hidden_joins(hops cache_invalidation.hop[]) returns table (parent regclass, message text, remedy text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select h.parent, format('row level security hides rows of %s from %I, which owns the capture functions', h.parent, reader.rolname),
    format('As a superuser: alter role %1$I bypassrls; or let %1$I own %2$s, without FORCE ROW LEVEL SECURITY.', reader.rolname, h.parent)
  from unnest(hops) as h join pg_class as c on c.oid = h.parent, pg_namespace as n join pg_roles as reader on reader.oid = n.nspowner
  where n.nspname = 'cache_invalidation' and c.relrowsecurity and not reader.rolsuper and not reader.rolbypassrls
    and (c.relforcerowsecurity or not pg_has_role(reader.oid, c.relowner, 'usage'))
$$;

-- Raises for a declaration that cannot be served as its tables are now.
create function cache_invalidation.check_watch(w cache_invalidation.watches) returns void language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  refused cache_invalidation.refusal;
  used record;
  hop record;
begin
  perform cache_invalidation.check_relation(w.rel);
  perform cache_invalidation.check_type(w.target);
  foreach refused in array array[
    (w.target = '*', 'invalid_parameter_value', format('the target %L would empty the whole cache at every write', w.target), 'Name a type, for example quota:*.'),
    (w.min_interval <= interval '0', 'invalid_parameter_value', format('min_interval must be positive, not %s', w.min_interval),
      'Leave it out (null) to invalidate at once, always.'),
    (w.min_interval > interval '1 year', 'invalid_parameter_value', format('min_interval is at most a year, not %s', w.min_interval),
      'How long may users see what is out of date? Usually seconds or minutes.'),
    (cardinality(w.columns) = 0, 'invalid_parameter_value', 'columns is empty', 'Leave it out (null) when every update counts.')
  ]::cache_invalidation.refusal[] loop
    if refused.applies then
      raise exception '%', refused.message using errcode = refused.state, hint = refused.hint;
    end if;
  end loop;
  -- reads the template to its end, and raises for a bad one
  for used in select u.* from cache_invalidation.used_columns(w) as u order by u.alias, u.name loop
    foreach refused in array array[
      (used.rel is null, 'invalid_parameter_value', format('the target %L names the table alias %s, which no join defines', w.target, used.alias),
        case when strpos(used.alias, '"') > 0 then 'An alias is written without quotes: {o.user_id} with join => ''public.orders o on o.id = row.order_id''.'
          else format('Add join => %L. A column with a point in its name is written {"%s.%s"}.',
            format('public.parent %1$I on %1$I.id = row.parent_id', used.alias), used.alias, used.name) end),
      (not exists (select from pg_class as c where c.oid = used.rel), 'undefined_table', format('the joined table %s was dropped', used.alias), 'Join another.'),
      (exists (select from pg_class as c where c.oid = w.rel and c.relkind = 'm'), 'feature_not_supported',
        format('%s is a materialized view, which is refreshed as a whole', w.rel), 'Name a group without a {column}, for example report:*.')
    ]::cache_invalidation.refusal[] loop
      if refused.applies then
        raise exception '%', refused.message using errcode = refused.state, hint = refused.hint;
      end if;
    end loop;
    perform cache_invalidation.check_column(used.rel, used.name, used.is_key);
  end loop;
  if w.hops = '{}' then
    return;
  end if;
  for hop in
    select h.parent, c.relkind, hidden.message as hidden_message, hidden.remedy as hidden_remedy
    from unnest(w.hops) as h join pg_class as c on c.oid = h.parent left join cache_invalidation.hidden_joins(w.hops) as hidden on hidden.parent = h.parent
  loop
    perform cache_invalidation.check_relation(hop.parent);
    foreach refused in array array[
      (hop.relkind = 'm', 'wrong_object_type', format('%s is joined, and is no table', hop.parent), 'Join a table: each of its changes has to be seen, too.'),
      (exists (select from cache_invalidation.table_trees(array[hop.parent]::oid[]) as t join pg_class as f on f.oid = t.rel and f.relkind = 'f'),
        'wrong_object_type', format('%s is joined, and has foreign tables below it', hop.parent),
        'A claim would wait for their server, and their changes are not seen here.'),
      (hop.hidden_message is not null, 'object_not_in_prerequisite_state', hop.hidden_message, hop.hidden_remedy)
    ]::cache_invalidation.refusal[] loop
      if refused.applies then
        raise exception '%', refused.message using errcode = refused.state, hint = refused.hint;
      end if;
    end loop;
  end loop;
  -- claim() casts what it compares: numbers to numbers and texts to texts, but dates would depend on a setting
  for used in
    select format('%I of %s', c.parent_column, h.parent) as parent_column, format_type(a.atttypid, null) as type,
      format('%I of %s', c.child_column, u.rel::regclass) as child_column, format_type(b.atttypid, null) as child_type
    from unnest(w.hops) as h cross join lateral unnest(h.parent_columns, h.child_aliases, h.child_columns) as c(parent_column, alias, child_column)
    join cache_invalidation.used_columns(w) as u on u.alias = c.alias and u.name = c.child_column and u.is_key
    join pg_attribute as a on a.attrelid = h.parent and a.attname = c.parent_column
    join pg_attribute as b on b.attrelid = u.rel and b.attname = c.child_column
    join pg_type as t on t.oid = cache_invalidation.base_type(a.atttypid)
    join pg_type as s on s.oid = cache_invalidation.base_type(b.atttypid)
    where t.oid <> s.oid and (t.typcategory <> s.typcategory or t.typcategory not in ('N', 'S'))
  loop
    raise exception 'the join compares %, which is %, with %, which is %', used.parent_column, used.type, used.child_column, used.child_type
      using errcode = 'datatype_mismatch', hint = 'Give both columns the same type.';
  end loop;
end
$$;

-- Raises for a join that is not by a key: it could be read only as a whole. (A key that is dropped later makes it slower, not wrong.) It
-- warns of owners who are trusted with it: planning a query of a joined table evaluates functions in its indexes, as the schema's owner.
create function cache_invalidation.check_join(w cache_invalidation.watches) returns void language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  refused cache_invalidation.refusal;
  hop record;
begin
  for hop in
    select h.*, c.relowner::regrole as owner, n.nspowner::regrole as rights, not pg_has_role(c.relowner, n.nspowner, 'member') as is_stranger
    from unnest(w.hops) as h join pg_class as c on c.oid = h.parent, pg_namespace as n where n.nspname = 'cache_invalidation'
  loop
    foreach refused in array array[(not exists (
      select from pg_index as i
      where i.indrelid = hop.parent and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
        and (select array_agg(a.attname::text order by a.attname::text) from pg_attribute as a
          where a.attrelid = i.indrelid and a.attnum = any ((i.indkey::smallint[])[0:i.indnkeyatts - 1]))
          = (select array_agg(distinct c.name order by c.name) from unnest(hop.parent_columns) as c(name))),
      'feature_not_supported', format('%s is not joined by a key: (%s) is none', hop.parent, array_to_string(hop.parent_columns, ', ')),
      'Join by the columns of a primary key, a unique constraint or a unique index, as a foreign key does.')]::cache_invalidation.refusal[] loop
      if refused.applies then
        raise exception '%', refused.message using errcode = refused.state, hint = refused.hint;
      end if;
    end loop;
    if hop.is_stranger then
      raise warning '%, who owns %, can run code with the rights of %, who owns the capture functions', hop.owner, hop.parent, hop.rights
        using detail = 'A join uses indexes, whose functions the owner of a table can change.',
          hint = format('If %s is not to be trusted with that: select cache_invalidation.unwatch(%L, %L); and watch without this join, or let %s own the table.',
            hop.owner, w.rel, w.target, hop.rights);
    end if;
  end loop;
end
$$;
