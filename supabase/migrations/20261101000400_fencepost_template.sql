-- Fencepost 4/9, part 1: what watch() accepts as a target, and the SQL expression made of it.
--
--   target     type:segment:…     a segment is literal text, or {column}, or {alias.column} of a joined table, or a
--                                 last `*` for the whole group: quota:{org_id}:*   user:{o.user_id}:orders
--   {"column"}                    a name with `:`, `{`, `}` or `.` in it is quoted as SQL quotes it: x:{"a:b"}   x:{o."a.b"}
--                                 Any other name is written as it is in the catalog and never folded: {orgId} is the column "orgId".
--
-- A placeholder is a whole segment, because only whole segments are encoded so that no two tuples share a key. A NULL
-- widens the target to the group before it: cost:{provider}:{model} with a null model becomes cost:openai:*.

-- Takes a template, gives its segments in order: as written, and what they are: literal text ('*' only as the last), or alias and column.
create function cache_invalidation.template_segments(target text)
returns table (place integer, written text, literal text, alias text, col text)
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  remainder text := template_segments.target;
  quoted text[];
  plain text[];
  remedy constant text := 'A target is type:segment:…, each segment literal text, a {column}, or a last *. For example quota:{org_id}:* or session:{id}:state.';
begin
  if target is null or pg_catalog.strpos(target, ':') = 0 then
    raise exception 'the target % has no segment after its type', pg_catalog.quote_nullable(target)
      using errcode = 'invalid_parameter_value', hint = remedy;
  end if;
  place := 0;
  loop
    place := place + 1;
    -- up to the next colon outside of a quoted name (the longest alternative wins)
    written := pg_catalog.substring(remainder, '^(?:\{(?:[^{}":.]+\.)?"(?:[^"]|"")+"\}[^:]*|[^:]*)');
    remainder := pg_catalog.substr(remainder, pg_catalog.length(written) + 1);
    literal := case
      when written ~ '^[A-Za-z0-9_.!''()-]{1,200}$' or (written = '*' and place > 1 and remainder = '') then written
    end;
    quoted := pg_catalog.regexp_match(written, '^\{(?:([^{}":.]+)\.)?"((?:[^"]|"")+)"\}$');
    plain := pg_catalog.regexp_match(written, '^\{(?:([^{}.]*)\.)?([^{}]+)\}$');
    alias := nullif((coalesce(quoted, plain))[1], 'row');
    col := coalesce(pg_catalog.replace(quoted[2], '""', '"'), plain[2]);
    if literal is null and (col is null or place = 1) then
      raise exception 'segment % of the target % is neither literal text nor one {column}', place, pg_catalog.quote_literal(target)
        using errcode = 'invalid_parameter_value',
          detail = pg_catalog.format('The segment is %L.', written), hint = remedy;
    end if;
    return next;
    exit when remainder = '';
    if place = 32 then
      raise exception 'the target has more than 32 segments'
        using errcode = 'invalid_parameter_value', hint = remedy;
    end if;
    remainder := pg_catalog.substr(remainder, 2);
  end loop;
end
$$;

-- The placeholder of a column of the watched table, as template_segments() reads it.
create function cache_invalidation.placeholder(col text) returns text
language sql immutable
return '{' || case when col ~ '[:{}.]|^"' then '"' || replace(col, '"', '""') || '"' else col end || '}';

-- A template with other names for columns of the watched table, all at once; renames has the new name of each old one.
create function cache_invalidation.rename_in_target(target text, renames jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select pg_catalog.string_agg(
    case when s.alias is null and renames ? s.col then cache_invalidation.placeholder(renames ->> s.col) else s.written end,
    ':' order by s.place)
  from cache_invalidation.template_segments(target) as s
$$;

-- The pattern of everything a template can name: the type's.
create function cache_invalidation.type_wildcard(target text) returns text
language sql immutable
return split_part(target, ':', 1) || ':*';

-- The SQL expression of a template over the row named "row" and the joined aliases. `||` gives NULL for a NULL
-- segment, so coalesce falls back to the next wider group: 'cost:' || a || ':' || b, 'cost:' || a || ':*', 'cost:*'.
-- With segments, which has the expression of each column's segment, never NULL, it is made of those and needs no fallback.
create function cache_invalidation.target_expression(target text, segments jsonb default null) returns text
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
      prefix := prefix || ' || ' || coalesce(segments ->> part.col, pg_catalog.format('cache_invalidation.segment(%s.%I)',
        coalesce(pg_catalog.quote_ident(part.alias), '"row"'), part.col));
      pending := '';
    end if;
  end loop;
  if prefix = '' then
    return pg_catalog.quote_literal(pending);
  end if;
  if pending <> '' then
    prefix := prefix || ' || ' || pg_catalog.quote_literal(pending);
  end if;
  if segments is not null then
    return prefix;
  end if;
  return pg_catalog.format('coalesce(%s)', pg_catalog.array_to_string(prefix || alternatives, ', '));
end
$$;
