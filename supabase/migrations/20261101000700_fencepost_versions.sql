-- Fencepost: versions. A version says what the changes of a table mean: which columns each declaration of the table reads, and which query
-- makes targets of them.

-- What else a column's values mean, in text; null: nothing. Of a joined table, the names that queries have: of the table, the column's type
-- and its collation. Of an enum, its labels, which are catalog rows of their own: after a rename the label that was captured is nobody's,
-- or another one's.
create function cache_invalidation.column_meaning(rel oid, alias text, type oid, "collation" oid) returns text language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  base constant oid := cache_invalidation.base_type(type);
begin
  return nullif(concat_ws(' ', case when alias <> '' then concat_ws(' ', rel::regclass, base::regtype, "collation"::regcollation) end, (
    select md5(string_agg(concat_ws(' ', e.oid, e.xmin, e.enumlabel), ' ' order by e.oid)) from pg_enum as e where e.enumtypid = base)), '');
end
$$;

-- The columns that are not as the catalog had them. What was written cannot be trusted to mean what it did, and the declaration gives its
-- wildcard. They are compared by the version of their catalog rows too: a type there and back is a change.
create view cache_invalidation.stale_columns as
  select v.id as version, v.place, v.watch_id, c.* from cache_invalidation.versions as v cross join lateral unnest(v.reads) as c
  left join pg_catalog.pg_attribute as a on a.attrelid = c.rel and a.attnum = c.number and not a.attisdropped
  where a.attname is distinct from c.name or a.atttypid <> c.type or a.xmin <> c.row_version
    or c.meaning is not null and c.meaning <> cache_invalidation.column_meaning(c.rel, c.alias, c.type, a.attcollation);

-- The value of an element of a change, as an expression: what quote_literal() makes, undone.
create function cache_invalidation.value_expression(element text) returns text language sql immutable set search_path = pg_catalog, pg_temp
return format($$case left(%1$s, 1)
  when '''' then replace(substr(%1$s, 2, length(%1$s) - 2), '''''', '''')
  when 'E' then replace(replace(substr(%1$s, 3, length(%1$s) - 3), '''''', ''''), E'\\\\', E'\\') end$$, element);

-- The elements of a change, as an expression. Where a value holds \x01 too, there are more of them than there should be, and they are
-- told apart by their quotes.
create function cache_invalidation.elements_expression(keys integer, has_bits boolean) returns text language sql immutable set search_path = pg_catalog, pg_temp
return format($$(select case
    when cardinality(s.elements) = case left(o.change, 1) when 'u' then %s else %s end then s.elements
    else array(select nullif(m.found[1], 'NULL') from regexp_matches(o.change, E'(?:^|\x01)([a-z]|NULL|[0-9]+|E?''(?:[^'']|'''')*'')', 'g') as m(found))
  end from (select string_to_array(o.change, E'\x01', 'NULL') offset 0) as s(elements))$$,
  1 + 2 * keys + has_bits::integer, 1 + keys);

-- The query that gives the targets of a declaration's changes, as run_target_query() runs it. It reads each distinct key once. names are
-- the key_columns() of the version, has_bits whether it has concerned_bits().
create function cache_invalidation.target_query(v cache_invalidation.versions, names text[], has_bits boolean) returns text language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  own record;
  segments text[];
  joins text;
begin
  -- the declaration's own part of the key: of the new row, and behind it of the old one
  select coalesce(string_agg(format(', c.change[%s]', 1 + n.place), '' order by n.place), '') as first_row,
      coalesce(string_agg(format(', c.change[%s]', 1 + n.place + cardinality(names)), '' order by n.place), '') as second_row,
      coalesce(string_agg(format(', k%s', n.place), '' order by n.place), '') as variables,
      coalesce(string_agg(format(', %s as k%s', cache_invalidation.value_expression('k' || n.place), n.place), '' order by n.place), '') as values,
      coalesce(jsonb_object_agg(n.name, format('"row".k%s', n.place)), '{}') as variable
    into own
    from unnest(names) with ordinality as n(name, place)
    where exists (select from unnest(v.reads) as c where c.alias = '' and c.is_key and c.name = n.name);
  segments := (
    select array_agg(cache_invalidation.segment_expression(
        case when s.alias = '' then own.variable ->> s.col
          else format('case when %1$I.%2$I is not null then format(''%%s'', %1$I.%2$I) end', s.alias, s.col) end, c.type) order by s.place)
    from cache_invalidation.template_segments(v.target) as s
    left join unnest(v.reads) as c on c.alias = s.alias and c.name = s.col and c.is_key);
  -- A value is cast to the type and collation of the parent's column, so that its index serves. An enum's owner may have made a cast to it.
  joins := (
    select string_agg(format(' join %s as %I on %s', h.parent, h.alias, (
        select string_agg(format('%I.%I = %s%s', h.alias, p.parent_column,
          case
            when p.alias <> '' then format('%I.%I', p.alias, p.child_column)
            when t.typtype = 'e' then format('(select label from unnest(enum_range(null::%s)) as label where format(''%%s'', label) = %s)',
              t.oid::regtype, own.variable ->> p.child_column)
            else format(case when cache_invalidation.base_type(c.type) = 'bpchar'::regtype then 'rtrim(%s, '' '')::%I.%I' else '(%s)::%I.%I' end,
              own.variable ->> p.child_column, 'pg_catalog', t.typname)
          end, ' collate ' || nullif(a.attcollation, 0)::regcollation), ' and ')
        from unnest(h.parent_columns, h.child_aliases, h.child_columns) as p(parent_column, alias, child_column)
        join pg_attribute as a on a.attrelid = h.parent and a.attname = p.parent_column
        join pg_type as t on t.oid = cache_invalidation.base_type(a.atttypid)
        left join unnest(v.reads) as c on c.alias = p.alias and c.name = p.child_column and c.is_key
      )), '' order by h.place)
    from unnest(v.hops) with ordinality as h(parent, alias, parent_columns, child_aliases, child_columns, place));
  -- no joined table has the alias row
  return format('select min("row".at), min("row".op)::"char", %s from (select min(c.at) as at, min(c.change[1]) as op%s'
    ' from unnest($1) as x(xid) cross join lateral ('
    'select o.at, o.version, %s as change from cache_invalidation.changes as o where o.xid = x.xid and o.version = $2 limit $3) as c'
    ' cross join lateral (values (1%s), (2%s)) as k(part%s)'
    ' where (k.part = 1 or c.change[1] = ''u'')%s group by c.version%s) as "row"%s group by 3 limit $4',
    cache_invalidation.target_expression(v.target, segments), own.values, cache_invalidation.elements_expression(cardinality(names), has_bits),
    own.first_row, own.second_row, own.variables,
    case when has_bits then format(' and (c.change[1] <> ''u'' or c.change[%s]::bigint & %s <> 0)', 2 + 2 * cardinality(names), 1::bigint << least(v.place, 62)) end,
    own.variables, joins);
end
$$;

-- All that a version says, to compare two of them.
create function cache_invalidation.version_text(version bigint) returns text language sql stable set search_path = pg_catalog, pg_temp
return (
  select string_agg((to_jsonb(v) - '{id,made,retired,written}'::text[])::text, ', ' order by v.place) from cache_invalidation.versions as v where v.id = version);

-- Stands for the text of the engine's own functions: after a migration that changes them, refresh() makes all versions again.
create function cache_invalidation.engine() returns text language sql stable set search_path = pg_catalog, pg_temp
return (
  select md5(string_agg(concat(p.proname, p.prosrc, p.prosqlbody), ' ' order by p.proname, p.oid)) from pg_proc as p
  where p.pronamespace = 'cache_invalidation'::regnamespace and p.prorettype not in ('trigger'::regtype, 'cache_invalidation.outbox_target'::regtype));

-- Why a declaration cannot be served; null: it can.
create function cache_invalidation.refused_because(w cache_invalidation.watches) returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (select r.message from cache_invalidation.refusals(w) as r limit 1);
end
$$;

-- Makes a new version of what a table's declarations and catalog say now, unless it would say what the present one does. Returns its id. Of
-- a declaration that is as it was, nothing is checked or made again where others were declared (only_declared).
create function cache_invalidation.make_version(rel regclass, present bigint, function_name name, only_declared boolean) returns bigint language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  new_id constant bigint := ('x' || substr(replace(gen_random_uuid()::text, '-', ''), 17))::bit(64)::bigint;
  made_by constant text := cache_invalidation.engine();
  names text[];
  has_bits boolean;
  is_alike boolean;
  refused cache_invalidation.versions;
begin
  insert into cache_invalidation.versions (id, place, rel, function, watch_id, target, columns, hops, reads, query, problem, engine)
    select new_id, d.place, make_version.rel, function_name, (d.w).id, (d.w).target, (d.w).columns, (d.w).hops,
      case when kept.id is not null then kept.reads else array(
        select row(u.alias, u.rel, a.attnum, u.name, a.atttypid, a.xmin,
          cache_invalidation.column_meaning(u.rel, u.alias, a.atttypid, a.attcollation), u.is_key)::cache_invalidation.read_column
        from cache_invalidation.used_columns(d.w) as u
        join pg_attribute as a on a.attrelid = u.rel and a.attname = u.name and a.attnum > 0 and not a.attisdropped
        order by u.alias, a.attnum, u.is_key) end,
      case when kept.place = d.place then kept.query end, case when kept.id is null then cache_invalidation.refused_because(d.w) end, made_by
    from (
      select w, row_number() over (order by w.id) - 1 as place from cache_invalidation.watches as w where w.rel = make_version.rel
    ) as d left join cache_invalidation.versions as kept
      on only_declared and kept.id = present and kept.watch_id = (d.w).id and kept.target = (d.w).target and kept.columns is not distinct from (d.w).columns
        and kept.hops = (d.w).hops and kept.problem is null and kept.engine = made_by
        and not exists (select from cache_invalidation.stale_columns as c where c.version = kept.id and c.place = kept.place);
  for refused in
    select v.* from cache_invalidation.versions as v where v.id = new_id and v.problem is not null and not exists (
      select from cache_invalidation.versions as former where former.id = present and former.watch_id = v.watch_id and former.problem is not null)
  loop
    raise warning 'the watch of % for % invalidates the whole type now: %', refused.rel, quote_literal(refused.target), refused.problem
      using hint = format('Restore what is missing and call refresh(), or: select cache_invalidation.unwatch(%L, %L); '
        'then watch() what the table has become.', refused.rel, refused.target);
  end loop;
  names := cache_invalidation.key_columns(new_id);
  has_bits := cache_invalidation.concerned_bits(new_id) is not null;
  is_alike := names = cache_invalidation.key_columns(present) and has_bits = (cache_invalidation.concerned_bits(present) is not null);
  update cache_invalidation.versions as v set query = cache_invalidation.target_query(v, names, has_bits)
    where v.id = new_id and v.problem is null and (v.query is null or not is_alike);
  if cache_invalidation.version_text(new_id) = cache_invalidation.version_text(present) then
    delete from cache_invalidation.versions as v where v.id = new_id;
    return present;
  end if;
  update cache_invalidation.versions as v set retired = pg_current_xact_id() where v.id = present;
  return new_id;
end
$$;
