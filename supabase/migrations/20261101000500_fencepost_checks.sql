-- Fencepost: what watch() refuses, each with the remedy. Nothing here changes anything or waits for a lock.

-- The event triggers that there should be. state is that of pg_event_trigger; null: it is missing, or another of that name.
create function cache_invalidation.event_triggers() returns table (name name, definition text, state "char") language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select w.name, format('on %s%s execute function cache_invalidation.follow_ddl()', w.event, ' when tag in (''' || array_to_string(w.tags, ''', ''') || ''')'),
    e.evtenabled
  from (values
    ('fencepost_ddl'::name, 'ddl_command_end', array[
      'ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'CREATE MATERIALIZED VIEW', 'SELECT INTO', 'CREATE SCHEMA', 'CREATE FOREIGN TABLE',
      -- which rename tables, or their columns, as well
      'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE', 'ALTER INDEX',
      'ALTER TYPE', 'ALTER COLLATION', 'ALTER SCHEMA', 'ALTER EXTENSION', 'REFRESH MATERIALIZED VIEW', 'GRANT', 'REVOKE', 'DROP OWNED']),
    ('fencepost_drop', 'sql_drop', null),
    ('fencepost_rewrite', 'table_rewrite', null)
  ) as w(name, event, tags)
  left join pg_event_trigger as e on e.evtname = w.name and e.evtevent = w.event and e.evttags is not distinct from w.tags
    and e.evtfoid = to_regprocedure('cache_invalidation.follow_ddl()')
$$;

-- Whether these event triggers see DDL. fencepost_ddl alone sees the REFRESH of a materialized view. (Those ENABLE REPLICA see nothing of an ordinary session.)
create function cache_invalidation.sees_ddl(triggers text default '%') returns boolean language sql stable
set search_path = pg_catalog, pg_temp
return not exists (select from cache_invalidation.event_triggers() as e where e.name like triggers and e.state in ('O', 'A') is not true);

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

create type cache_invalidation.refusal as (applies boolean, state text, message text, hint text);

-- Why a declaration cannot be served as its tables are now; the first reason is the one to tell. Raises for a bad template. What makes a
-- declaration only slower later, as a dropped key does, counts where it is new; so does a right, because one that was taken says nothing
-- of the declaration.
create function cache_invalidation.refusals(w cache_invalidation.watches, is_new boolean default false) returns setof cache_invalidation.refusal
language plpgsql stable rows 1 set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
as $$
declare
  canonical constant text := 'Use a column of type text, uuid, an integer type, numeric, boolean, date, timestamp(tz), bytea or an enum, '
    'or add a stored generated column of such a type.';
begin
  -- its table, and those that it joins
  return query
    select r.applies, r.state, r.message, r.hint
    from (select w.rel, null as alias, 0 as place union all select h.parent, h.alias, h.place
      from unnest(w.hops) with ordinality as h(parent, alias, parent_columns, child_aliases, child_columns, place)) as t
    left join (pg_class as c join pg_namespace as n on n.oid = c.relnamespace) on c.oid = t.rel
    cross join lateral unnest(array[
      (t.rel is null, 'null_value_not_allowed', 'watch() needs a table', 'For example ''public.quotas''.'),
      (c.oid is null and t.alias is null, 'undefined_table', format('the table with oid %s does not exist', t.rel::oid), 'It was dropped.'),
      (c.oid is null, 'undefined_table', format('the joined table %s was dropped', t.alias), 'Join another.'),
      (c.relkind = 'v', 'wrong_object_type', format('%s is a view', t.rel),
        'A write through a view changes its tables, and triggers fire there. Watch the tables that the view reads.'),
      (c.relkind = 'f', 'wrong_object_type', format('%s is a foreign table', t.rel),
        'Writes made on the other server fire no trigger here. Install Fencepost in the database that holds the table.'),
      (c.relkind not in ('r', 'p', 'm'), 'wrong_object_type', format('%s is not a table', t.rel), 'Only tables can be watched.'),
      (c.relpersistence = 't', 'wrong_object_type', format('%s is a temporary table', t.rel),
        'Only permanent tables can be watched: what one session alone sees cannot be cached for others.'),
      (n.nspname in ('pg_catalog', 'information_schema', 'cache_invalidation'), 'wrong_object_type', format('%s belongs to the system', t.rel),
        'Watch a table of your own.'),
      (is_new and not has_schema_privilege('cache_invalidation', 'create'), 'insufficient_privilege',
        format('the role %s may not create functions in the schema cache_invalidation', current_user),
        format('Run watch() as %s.', (select own.nspowner::regrole from pg_namespace as own where own.nspname = 'cache_invalidation'))),
      (is_new and not pg_has_role(c.relowner, 'usage'), 'insufficient_privilege',
        format('the role %s may not create triggers on %s: it belongs to %s', current_user, t.rel, c.relowner::regrole),
        format('Run watch() as a role that owns both, or: grant %s to %s; or keep what a key needs of it in a table of your own.', c.relowner::regrole, current_user)),
      (c.relkind = 'm' and t.alias is not null, 'wrong_object_type', format('%s is joined, and is no table', t.rel),
        'Join a table: each of its changes has to be seen, too.'),
      (c.relkind = 'm' and not cache_invalidation.sees_ddl('fencepost_ddl'), 'feature_not_supported',
        format('%s is a materialized view, and nothing would see when it is refreshed', t.rel),
        'select cache_invalidation.create_event_triggers(); as a role that may. Or watch the tables that it reads.'),
      (t.alias is not null and exists (
          select from cache_invalidation.table_trees(array[t.rel]::oid[]) as below join pg_class as f on f.oid = below.rel and f.relkind = 'f'),
        'wrong_object_type', format('%s is joined, and has foreign tables below it', t.rel),
        'A claim would wait for their server, and their changes are not seen here.')
    ]::cache_invalidation.refusal[]) with ordinality as r(applies, state, message, hint, place)
    where r.applies order by t.place, r.place;
  if found then
    return;
  end if;
  perform cache_invalidation.check_type(w.target);
  return query
    select r.* from unnest(array[
      (w.target = '*', 'invalid_parameter_value', format('the target %L would empty the whole cache at every write', w.target), 'Name a type, for example quota:*.'),
      (w.min_interval <= interval '0', 'invalid_parameter_value', format('min_interval must be positive, not %s', w.min_interval),
        'Leave it out (null) to invalidate at once, always.'),
      (w.min_interval > interval '1 year', 'invalid_parameter_value', format('min_interval is at most a year, not %s', w.min_interval),
        'How long may users see what is out of date? Usually seconds or minutes.'),
      (cardinality(w.columns) = 0, 'invalid_parameter_value', 'columns is empty', 'Leave it out (null) when every update counts.')
    ]::cache_invalidation.refusal[]) as r where r.applies;
  if found then
    return;
  end if;
  -- Its columns. Where keys are made of one, its text is canonical, so that two values that compare equal have the same text.
  return query
    select r.applies, r.state, r.message, r.hint
    from cache_invalidation.used_columns(w) as u
    left join pg_class as c on c.oid = u.rel
    left join pg_attribute as a on a.attrelid = u.rel and a.attname = u.name and a.attnum > 0 and not a.attisdropped
    left join pg_type as t on t.oid = cache_invalidation.base_type(a.atttypid)
    left join pg_collation as l on l.oid = a.attcollation
    cross join lateral unnest(array[
      (u.rel is null, 'invalid_parameter_value', format('the target %L names the table alias %s, which no join defines', w.target, u.alias),
        case when strpos(u.alias, '"') > 0 then 'An alias is written without quotes: {o.user_id} with join => ''public.orders o on o.id = row.order_id''.'
          else format('Add join => %L. A column with a point in its name is written {"%s.%s"}.',
            format('public.parent %1$I on %1$I.id = row.parent_id', u.alias), u.alias, u.name) end),
      (c.relkind = 'm', 'feature_not_supported', format('%s is a materialized view, which is refreshed as a whole', w.rel),
        'Name a group without a {column}, for example report:*.'),
      (a.attname is null, 'undefined_column', format('the table %s has no column %I', u.rel::regclass, u.name), (
        select 'Its columns are ' || string_agg(known.attname, ', ' order by known.attnum) || '.'
        from pg_attribute as known where known.attrelid = u.rel and known.attnum > 0 and not known.attisdropped)),
      (a.attgenerated = 'v', 'feature_not_supported', format('the column %I of %s is a virtual generated column', u.name, u.rel::regclass),
        'Triggers do not see the values of virtual generated columns. Make it a stored one.'),
      (u.is_key and t.typtype <> 'e' and (t.typnamespace <> 'pg_catalog'::regnamespace or t.typname not in (
          'text', 'varchar', 'bpchar', 'name', 'uuid', 'int2', 'int4', 'int8', 'numeric', 'bool', 'date', 'timestamp', 'timestamptz', 'bytea')),
        'feature_not_supported', format('the column %I of %s cannot be part of a key: its type is %s', u.name, u.rel::regclass, format_type(a.atttypid, null)),
        'Values of this type that mean the same can have different texts, so reader and trigger could disagree on the key. ' || canonical),
      (u.is_key and not l.collisdeterministic, 'feature_not_supported',
        format('the column %I of %s cannot be part of a key: its collation calls different texts equal', u.name, u.rel::regclass), canonical)
    ]::cache_invalidation.refusal[]) with ordinality as r(applies, state, message, hint, place)
    where r.applies order by u.alias, u.name, r.place;
  if found or w.hops = '{}' then
    return;
  end if;
  return query
    select true, 'object_not_in_prerequisite_state', hidden.message, hidden.remedy from cache_invalidation.hidden_joins(w.hops) as hidden
    union all
    -- claim() casts what it compares: numbers to numbers and texts to texts, but dates would depend on a setting
    select true, 'datatype_mismatch', format('the join compares %I of %s, which is %s, with %I of %s, which is %s', p.parent_column, h.parent,
      format_type(a.atttypid, null), p.child_column, u.rel::regclass, format_type(b.atttypid, null)), 'Give both columns the same type.'
    from unnest(w.hops) as h cross join lateral unnest(h.parent_columns, h.child_aliases, h.child_columns) as p(parent_column, alias, child_column)
    join cache_invalidation.used_columns(w) as u on u.alias = p.alias and u.name = p.child_column and u.is_key
    join pg_attribute as a on a.attrelid = h.parent and a.attname = p.parent_column
    join pg_attribute as b on b.attrelid = u.rel and b.attname = p.child_column
    join pg_type as t on t.oid = cache_invalidation.base_type(a.atttypid)
    join pg_type as s on s.oid = cache_invalidation.base_type(b.atttypid)
    where t.oid <> s.oid and (t.typcategory <> s.typcategory or t.typcategory not in ('N', 'S'))
    union all
    -- what is not joined by a key could be read only as a whole
    select true, 'feature_not_supported', format('%s is not joined by a key: (%s) is none', h.parent, array_to_string(h.parent_columns, ', ')),
      'Join by the columns of a primary key, a unique constraint or a unique index, as a foreign key does.'
    from unnest(w.hops) as h
    where is_new and not exists (
      select from pg_index as i
      where i.indrelid = h.parent and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
        and (select array_agg(a.attname::text order by a.attname::text) from pg_attribute as a
          where a.attrelid = i.indrelid and a.attnum = any ((i.indkey::smallint[])[0:i.indnkeyatts - 1]))
          = (select array_agg(distinct c.name order by c.name) from unnest(h.parent_columns) as c(name)));
end
$$;

-- The owners who are trusted with a declaration's join: planning a query of a joined table evaluates functions in its indexes, and in those
-- of each table below it, as the schema's owner.
create function cache_invalidation.trusted_owners(w cache_invalidation.watches) returns table (message text, remedy text) language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select format('%s, who owns %s, can run code with the rights of %s, who owns the capture functions', owned.owner, owned.tables, owned.rights),
      format('If %s is not to be trusted with that: select cache_invalidation.unwatch(%L, %L); and watch without this join, or let %s own the table.',
        owned.owner, w.rel, w.target, owned.rights)
    from (
      select c.relowner::regrole as owner, n.nspowner::regrole as rights, string_agg(distinct t.rel::regclass::text, ', ') as tables
      from pg_namespace as n, cache_invalidation.table_trees(array(select h.parent::oid from unnest(w.hops) as h)) as t
      -- looked up, because the planner expects a thousand
      cross join lateral (select own.relowner from pg_class as own where own.oid = t.rel offset 0) as c
      where n.nspname = 'cache_invalidation' and not pg_has_role(c.relowner, n.nspowner, 'member')
      group by c.relowner, n.nspowner
    ) as owned;
end
$$;

-- Raises for a new declaration that cannot be served. Warns of owners who are trusted with its joins.
create function cache_invalidation.check_watch(w cache_invalidation.watches) returns void language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  told record;
begin
  for told in select r.* from cache_invalidation.refusals(w, is_new => true) as r limit 1 loop
    raise exception '%', told.message using errcode = told.state, hint = told.hint;
  end loop;
  for told in
    select c.oid::regclass as rel from pg_class as c
    where c.relpersistence = 'u' and (c.oid = w.rel or c.oid in (select h.parent from unnest(w.hops) as h))
  loop
    raise notice '% is unlogged: a crash empties it without firing a trigger', told.rel
      using hint = 'Start a new epoch after a crash: select cache_invalidation.invalidate(''*'').';
  end loop;
  for told in select t.* from cache_invalidation.trusted_owners(w) as t loop
    raise warning '%', told.message using detail = 'A join uses indexes, whose functions the owner of a table can change.', hint = told.remedy;
  end loop;
end
$$;
