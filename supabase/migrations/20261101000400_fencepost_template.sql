-- Fencepost 4/9: what watch() accepts, and the SQL expressions made of it.
--
--   target     type:segment:…     a segment is literal text, or {column}, or {alias.column} of a joined table, or a
--                                 last `*` for the whole group: quota:{org_id}:*   user:{o.user_id}:orders
--   join       schema.table alias on condition [join schema.table alias on condition …]; the changed row is `row`
--
-- A placeholder is a whole segment, because only whole segments are encoded so that no two tuples share a key. A NULL
-- widens the target to the group before it: cost:{provider}:{model} with a null model becomes cost:openai:*.

-- Takes a template, gives its segments in order: literal text ('*' only as the last), or alias and column.
create function cache_invalidation.template_segments(target text)
returns table (place integer, literal text, alias text, col text)
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  segments text[] := pg_catalog.string_to_array(template_segments.target, ':');
  segment text;
  inner_text text;
  remedy constant text := 'A target is type:segment:…, each segment literal text, a {column}, or a last *. For example quota:{org_id}:* or session:{id}:state.';
begin
  if target is null or pg_catalog.cardinality(segments) < 2 then
    raise exception 'the target % has no segment after its type', pg_catalog.quote_nullable(target)
      using errcode = 'invalid_parameter_value', hint = remedy;
  end if;
  for i in 1 .. pg_catalog.cardinality(segments) loop
    segment := segments[i];
    place := i;
    literal := null;
    alias := null;
    col := null;
    inner_text := pg_catalog.substring(segment, '^\{([^{}]+)\}$');
    if inner_text is not null and i > 1 then
      if pg_catalog.strpos(inner_text, '.') > 0 then
        alias := pg_catalog.split_part(inner_text, '.', 1);
        col := pg_catalog.substr(inner_text, pg_catalog.strpos(inner_text, '.') + 1);
      else
        col := inner_text;
      end if;
      alias := nullif(alias, 'row');
    elsif segment = '*' and i > 1 and i = pg_catalog.cardinality(segments) then
      literal := '*';
    elsif segment ~ '^[A-Za-z0-9_.!''()-]{1,200}$' then
      literal := segment;
    else
      raise exception 'segment % of the target % is neither literal text nor one {column}', i, pg_catalog.quote_literal(target)
        using errcode = 'invalid_parameter_value',
          detail = pg_catalog.format('The segment is %L.', segment), hint = remedy;
    end if;
    return next;
  end loop;
end
$$;

-- Takes the text of a join, gives its tables in order. Raises for what it cannot read.
create function cache_invalidation.join_tables(join_clause text)
returns table (place integer, rel regclass, alias text, condition text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  piece text;
  parts text[];
begin
  place := 0;
  if join_clause is null then
    return;
  end if;
  foreach piece in array pg_catalog.regexp_split_to_array(join_clause, '\s+(?:left\s+|inner\s+)?(?:outer\s+)?join\s+', 'i') loop
    parts := pg_catalog.regexp_match(piece,
      '^\s*((?:"[^"]+"|[\w$]+)\.(?:"[^"]+"|[\w$]+))\s+(?:as\s+)?([a-z_]\w*)\s+on\s+(\S.*)$', 'i');
    if parts is null or pg_catalog.lower(parts[2]) in ('row', 'before') then
      raise exception 'cannot read the join %', pg_catalog.quote_literal(piece)
        using errcode = 'invalid_parameter_value',
          hint = 'Write schema.table alias on condition, and row.column for the changed row: public.orders o on o.id = row.order_id';
    end if;
    place := place + 1;
    rel := pg_catalog.to_regclass(parts[1]);
    alias := pg_catalog.lower(parts[2]);
    condition := pg_catalog.regexp_replace(parts[3], '\yrow\.', '"row".', 'gi');
    if rel is null then
      raise exception 'the joined table % does not exist', parts[1]
        using errcode = 'undefined_table', hint = 'Check the spelling; the schema is needed.';
    end if;
    return next;
  end loop;
end
$$;

-- The pattern of everything a template can name: the type's.
create function cache_invalidation.type_wildcard(target text) returns text
language sql immutable
return split_part(target, ':', 1) || ':*';

-- The SQL expression of a template over the row named "row" and the joined aliases. `||` gives NULL for a NULL
-- segment, so coalesce falls back to the next wider group: 'cost:' || a || ':' || b, 'cost:' || a || ':*', 'cost:*'.
create function cache_invalidation.target_expression(target text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  part record;
  prefix text := '';
  pending text := '';
  alternatives text[] := '{}'::text[];
begin
  for part in select s.* from cache_invalidation.template_segments(target_expression.target) as s order by s.place loop
    if part.place > 1 then
      pending := pending || ':';
    end if;
    if part.literal is not null then
      pending := pending || part.literal;
    else
      prefix := prefix || case when prefix = '' then '' else ' || ' end || pg_catalog.quote_literal(pending);
      alternatives := pg_catalog.regexp_replace(prefix, '''$', '*''') || alternatives;
      prefix := prefix || pg_catalog.format(' || cache_invalidation.segment(%s.%I)',
        coalesce(pg_catalog.quote_ident(part.alias), '"row"'), part.col);
      pending := '';
    end if;
  end loop;
  if prefix = '' then
    return pg_catalog.quote_literal(pending);
  end if;
  if pending <> '' then
    prefix := prefix || ' || ' || pg_catalog.quote_literal(pending);
  end if;
  return pg_catalog.format('coalesce(%s)', pg_catalog.array_to_string(prefix || alternatives, ', '));
end
$$;

-- The columns of the watched table that a declaration names: in the target, in the join, in columns.
create function cache_invalidation.named_columns(target text, columns text[], join_clause text) returns text[]
language sql stable
return array(
  select distinct named.col
  from (
    select s.col from cache_invalidation.template_segments(target) as s where s.col is not null and s.alias is null
    union all
    select unnest(columns)
    union all
    select coalesce(found.parts[1], lower(found.parts[2]))
    from cache_invalidation.join_tables(join_clause) as j,
      regexp_matches(j.condition, '"row"\.(?:"([^"]+)"|([[:alpha:]_][\w$]*))', 'g') as found(parts)
  ) as named
  order by named.col
);
