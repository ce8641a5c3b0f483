-- Fencepost: what watch() accepts as a target and as a join (docs/capture.md#watch), and the SQL made of them.
--
-- A placeholder is a whole segment, because only whole segments are encoded so that no two tuples share a key. A name in it is never
-- folded: {orgId} is the column "orgId". In the queries each alias of a join qualifies columns beside "row" alone, so no other name can
-- collide.

-- Takes a template, gives its segments in order: as written, and what they are: literal text ('*' only as the last), or alias and
-- column. The alias of the watched table's own columns is ''.
create function cache_invalidation.template_segments(target text)
returns table (place integer, written text, literal text, alias text, col text) language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  remainder text := template_segments.target;
  quoted text[];
  plain text[];
  remedy constant text := 'A target is type:segment:…, each segment literal text, a {column}, or a last *. For example quota:{org_id}:* or session:{id}:state.';
begin
  if target is null or strpos(target, ':') = 0 then
    raise exception 'the target % has no segment after its type', quote_nullable(target)
      using errcode = 'invalid_parameter_value', hint = remedy;
  end if;
  place := 0;
  loop
    place := place + 1;
    -- up to the next colon outside of a quoted name (the longest alternative wins)
    written := substring(remainder, '^(?:\{(?:[^{}":.]+\.)?"(?:[^"]|"")+"\}[^:]*|[^:]*)');
    remainder := substr(remainder, length(written) + 1);
    literal := case
      when written ~ '^[A-Za-z0-9_.!''()-]{1,200}$' or (written = '*' and place > 1 and remainder = '') then written
    end;
    quoted := regexp_match(written, '^\{(?:([^{}":.]+)\.)?"((?:[^"]|"")+)"\}$');
    plain := regexp_match(written, '^\{(?:([^{}.]*)\.)?([^{}]+)\}$');
    alias := coalesce(nullif((coalesce(quoted, plain))[1], 'row'), '');
    col := coalesce(replace(quoted[2], '""', '"'), plain[2]);
    if literal is null and (col is null or place = 1) then
      raise exception 'segment % of the target % is neither literal text nor one {column}', place, quote_literal(target)
        using errcode = 'invalid_parameter_value', detail = format('The segment is %L.', written), hint = remedy;
    end if;
    return next;
    exit when remainder = '';
    if place = 32 then
      raise exception 'the target has more than 32 segments' using errcode = 'invalid_parameter_value', hint = remedy;
    end if;
    remainder := substr(remainder, 2);
  end loop;
end
$$;

-- A column's placeholder, as template_segments() reads it.
create function cache_invalidation.placeholder(alias text, col text) returns text language sql immutable set search_path = pg_catalog, pg_temp
return '{' || case when alias = '' then '' else alias || '.' end
  || case when col ~ '[:{}.]|^"' then '"' || replace(col, '"', '""') || '"' else col end || '}';

-- The pattern of everything a template can name: the type's.
create function cache_invalidation.type_wildcard(target text) returns text language sql immutable set search_path = pg_catalog, pg_temp
return split_part(target, ':', 1) || ':*';

-- Invalidates the types of targets or templates, each once.
create function cache_invalidation.invalidate_types(targets text[]) returns void language sql set search_path = pg_catalog, pg_temp
as $$
  select cache_invalidation.invalidate(w.target) from (select distinct cache_invalidation.type_wildcard(t.target) from unnest(targets) as t(target)) as w(target)
$$;

-- A join as text, as watch() reads it.
create function cache_invalidation.join_text(hops cache_invalidation.hop[]) returns text language sql stable set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('%s %I on %s', h.parent, h.alias, (
      select string_agg(format('%I.%I = %s.%I', h.alias, p.parent_column, case when p.alias = '' then 'row' else quote_ident(p.alias) end, p.child_column),
        ' and ' order by p.place)
      from unnest(h.parent_columns, h.child_aliases, h.child_columns) with ordinality as p(parent_column, alias, child_column, place)
    )), ' join ' order by h.place)
  from unnest(hops) with ordinality as h(parent, alias, parent_columns, child_aliases, child_columns, place)
$$;

-- The foreign keys of a table, each as a step whose alias is the parent's name. (One that refers to a partitioned table has one more for each
-- of its partitions.)
create function cache_invalidation.foreign_keys(rel oid) returns table (name name, hop cache_invalidation.hop) language plpgsql stable rows 3
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select f.conname, row(f.confrelid, c.relname,
      array(select a.attname from unnest(f.confkey) with ordinality as k(number, place)
        join pg_attribute as a on a.attrelid = f.confrelid and a.attnum = k.number order by k.place),
      array_fill(''::text, array[cardinality(f.conkey)]),
      array(select a.attname from unnest(f.conkey) with ordinality as k(number, place)
        join pg_attribute as a on a.attrelid = f.conrelid and a.attnum = k.number order by k.place))::cache_invalidation.hop
    from pg_constraint as f join pg_class as c on c.oid = f.confrelid
    where f.conrelid = foreign_keys.rel and f.contype = 'f'
      and not exists (select from pg_constraint as whole where whole.oid = f.conparentid and whole.conrelid = f.conrelid);
end
$$;

-- The foreign key that a join names, as the catalog has it: cut to 63 bytes. Null: it is none's name.
create function cache_invalidation.named_key(rel oid, join_clause text) returns name language sql stable set search_path = pg_catalog, pg_temp
return (
  select k.name from cache_invalidation.foreign_keys(rel) as k
  where k.name in (join_clause::name, btrim(join_clause)::name) order by k.name = join_clause::name desc limit 1);

-- The relation of a name that an oid had. Not a view that reads a former one of that name: writes and reads go through it. (to_regclass()
-- raises where its caller may not look into the schema.)
create function cache_invalidation.named(name text, former oid default null) returns regclass language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select c.oid::regclass from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = (parse_ident(name))[1] and c.relname = (parse_ident(name))[2] and not (c.relkind = 'v' and exists (
      select from pg_rewrite as r join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
      where r.ev_class = c.oid and d.refclassid = 'pg_class'::regclass and d.refobjid = former)));
end
$$;

-- Reads a join. Raises for what is no plain step to a key of each of its tables: anything else could not be looked up when the worker
-- asks, after the commit. A parent that need not exist is null.
create function cache_invalidation.read_join(rel regclass, join_clause text, must_exist boolean default true) returns cache_invalidation.hop[] language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  hops cache_invalidation.hop[] := array[]::cache_invalidation.hop[];
  hop cache_invalidation.hop;
  word constant text := '(?:"(?:[^"]|"")+"|[[:alpha:]_][\w$]*)';
  pair constant text := format('%1$s\s*\.\s*%1$s\s*=\s*%1$s\s*\.\s*%1$s', word);
  next_step constant text := '(?:(?:left\s+(?:outer\s+)?|inner\s+)?join\s)(.*)';
  step constant text := format('^\s*(%1$s\s*\.\s*%1$s)\s+(?:as\s+)?(%1$s)\s+on\s+(%2$s(?:\s+and\s+%2$s)*)\s*(?:%3$s)?$', word, pair, next_step);
  remainder text := nullif(btrim(join_clause), '');
  parts text[];
  names text[];
  aliases text[] := array['row'];
  remedy constant text := 'Write the name of a foreign key, or its text: public.orders o on o.id = row.order_id. '
    'What a join cannot say belongs into a column of the watched table, or into a table of its own.';
begin
  if remainder is null then
    return hops;
  end if;
  select (k.hop).* into hop from cache_invalidation.foreign_keys(rel) as k where k.name = cache_invalidation.named_key(rel, join_clause);
  if found then
    if hop.alias = 'row' or hop.alias ~ '[{}":.]' then
      hop.alias := 'parent';
      raise exception 'the join % is a foreign key to %, whose name cannot be an alias', quote_literal(join_clause), hop.parent
        using errcode = 'invalid_parameter_value',
          hint = format('Write it as text, with an alias of your own: %L.', cache_invalidation.join_text(array[hop]));
    end if;
    return array[hop];
  end if;
  while remainder is not null loop
    parts := regexp_match(remainder, step, 'i');
    hop := row(cache_invalidation.named(parts[1]), (parse_ident(parts[2]))[1], '{}', '{}', '{}');
    if parts is null or hop.alias = any (aliases) then
      raise exception 'cannot read the join %', quote_literal(remainder) using errcode = 'invalid_parameter_value', hint = remedy;
    elsif hop.parent is null and must_exist then
      raise exception 'the joined table % does not exist', parts[1]
        using errcode = 'undefined_table', hint = 'Check the spelling; the schema is needed.';
    end if;
    for names in
      select array(select (parse_ident(m.parts[i]))[1] from generate_series(1, 4) as i order by i)
      from regexp_matches(parts[3], format('(%1$s)\s*\.\s*(%1$s)\s*=\s*(%1$s)\s*\.\s*(%1$s)', word), 'gi') as m(parts)
    loop
      if names[3] = hop.alias then
        names := array[names[3], names[4], names[1], names[2]];
      end if;
      if names[1] <> hop.alias or not names[3] = any (aliases) then
        raise exception 'the join % compares %.% with %.%', quote_literal(parts[3]), names[1], names[2], names[3], names[4]
          using errcode = 'invalid_parameter_value', hint = remedy,
            detail = 'Each comparison has a column of the joined table on one side, and one of row or of a table before it on the other.';
      end if;
      hop.parent_columns := hop.parent_columns || names[2];
      hop.child_aliases := hop.child_aliases || case when names[3] = 'row' then '' else names[3] end;
      hop.child_columns := hop.child_columns || names[4];
    end loop;
    hops := hops || hop;
    aliases := aliases || hop.alias;
    remainder := parts[4];
  end loop;
  return hops;
end
$$;

-- The columns that a declaration names: of which table, and whether keys are made of them (or they are only compared). (PL/pgSQL keeps
-- its plans, and this is called often; so with base_type().)
create function cache_invalidation.used_columns(w cache_invalidation.watches)
returns table (alias text, rel oid, name text, is_key boolean) language plpgsql stable rows 5 set search_path = pg_catalog, pg_temp
as $$
begin
  return query with hops as (
    select h.* from unnest(w.hops) as h
  ), named as (
    select s.alias, s.col, true as is_key from cache_invalidation.template_segments(w.target) as s where s.col is not null
    union
    select c.alias, c.col, true from hops as h cross join lateral unnest(h.child_aliases, h.child_columns) as c(alias, col)
    union
    select h.alias, c.col, true from hops as h cross join lateral unnest(h.parent_columns) as c(col)
    union
    select '', c.col, false from unnest(w.columns) as c(col)
  )
  select n.alias, case when n.alias = '' then w.rel::oid else (select h.parent::oid from hops as h where h.alias = n.alias) end, n.col, n.is_key
  from named as n;
end
$$;

-- A type's own type where it is a domain.
create function cache_invalidation.base_type(type oid) returns oid language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  while exists (select from pg_type as t where t.oid = type and t.typtype = 'd') loop
    type := (select t.typbasetype from pg_type as t where t.oid = type);
  end loop;
  return type;
end
$$;

-- The SQL expression of a key segment; value is one that gives the text that format('%s', …) makes of a column of this type. It casts to
-- types of Postgres alone, never to a domain, whose CHECK would run. The plain case (no special byte, not long) costs one regular
-- expression. The length is compared first, because a regular expression over 256 MB fails.
create function cache_invalidation.segment_expression(value text, type oid) returns text language sql stable set search_path = pg_catalog, pg_temp
return (
  select case
    when t.typname in ('int2', 'int4', 'int8', 'uuid') then value
    when t.typname in ('numeric', 'bool', 'bytea', 'date', 'timestamp', 'timestamptz') then format('cache_invalidation.segment((%s)::%I)', value, t.typname)
    else format('case when octet_length(%1$s) > 200 or %1$s collate "C" ~ ''[^A-Za-z0-9_.!''''()-]'' then cache_invalidation.segment(%1$s) else %1$s end',
      -- without the padding
      case when t.typname = 'bpchar' then format('rtrim(%s, '' '')', value) else value end)
  end
  from pg_type as t where t.oid = cache_invalidation.base_type(type));

-- The SQL expression of a template; segments has the expression of each variable segment, by its place. `||` gives NULL for
-- a NULL segment, so coalesce falls back to the next wider group: 'cost:' || a || ':' || b, 'cost:' || a || ':*', 'cost:*'.
create function cache_invalidation.target_expression(target text, segments text[]) returns text language sql immutable set search_path = pg_catalog, pg_temp
return (
  select format('coalesce(%s)', concat_ws(', ', (array_agg(p.whole order by p.place desc))[1],
    string_agg(p.before || ' || '':*''', ', ' order by p.place desc) filter (where p.literal is null)))
  from (
    select s.place, s.literal, string_agg(s.value, ' || '':'' || ') over (order by s.place) as whole,
      string_agg(s.value, ' || '':'' || ') over (order by s.place rows between unbounded preceding and 1 preceding) as before
    from (
      select t.place, t.literal, coalesce(quote_literal(t.literal), segments[t.place]) as value from cache_invalidation.template_segments(target) as t
    ) as s
  ) as p);

-- A declaration with other names for some columns, all at once; renames has the new name for each 'alias.name'.
create function cache_invalidation.rename_columns(w cache_invalidation.watches, renames jsonb) returns cache_invalidation.watches language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_populate_record(w, jsonb_build_object(
    'target', (
      select string_agg(coalesce(cache_invalidation.placeholder(s.alias, renames ->> (s.alias || '.' || s.col)), s.written), ':' order by s.place)
      from cache_invalidation.template_segments(w.target) as s),
    'columns', (select jsonb_agg(coalesce(renames ->> ('.' || c.name), c.name) order by c.place) from unnest(w.columns) with ordinality as c(name, place)),
    'hops', (
      select coalesce(jsonb_agg(to_jsonb(h) - 'place' || jsonb_build_object(
          'parent_columns', (
            select jsonb_agg(coalesce(renames ->> (h.alias || '.' || c.name), c.name) order by c.place)
            from unnest(h.parent_columns) with ordinality as c(name, place)),
          'child_columns', (
            select jsonb_agg(coalesce(renames ->> (c.alias || '.' || c.name), c.name) order by c.place)
            from unnest(h.child_aliases, h.child_columns) with ordinality as c(alias, name, place))) order by h.place), '[]')
      from unnest(w.hops) with ordinality as h(parent, alias, parent_columns, child_aliases, child_columns, place))))
$$;
