-- Fencepost 4/9, part 2: what watch() accepts as a join, and the columns that a declaration names.
--
--   join       schema.table alias on condition [join schema.table alias on condition …]; the changed row is `row`
--
-- `row` is a reserved word of SQL, so row.column becomes "row".column in the queries. The text is cut into tokens for that, because
-- `row.` may also stand in a string or in a quoted name.

-- Cuts the text of a join into tokens, which put together are the text again; col is the column that a token
-- row.column names, null for all others.
create function cache_invalidation.join_tokens(join_text text)
returns table (place bigint, token text, col text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select t.place, t.parts[1], coalesce(pg_catalog.replace(t.parts[2], '""', '"'), pg_catalog.lower(t.parts[3] collate "C"))
  from pg_catalog.regexp_matches(join_text,
    $re$('(?:[^']|'')*'|(?:row|"row")\s*\.\s*(?:"((?:[^"]|"")+)"|([[:alpha:]_][\w$]*))|"(?:[^"]|"")*"|[\w$]+(?:\.[\w$]+)*|.)$re$, 'gi')
    with ordinality as t(parts, place)
$$;

-- A join with other names for columns of the watched table, all at once; renames has the new name of each old one.
create function cache_invalidation.rename_in_join(join_text text, renames jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select pg_catalog.string_agg(
    case when renames ? t.col then 'row.' || pg_catalog.quote_ident(renames ->> t.col) else t.token end, '' order by t.place)
  from cache_invalidation.join_tokens(join_text) as t
$$;

-- The tables of a join, in order. Raises for text that it cannot read.
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
      '^\s*((?:"(?:[^"]|"")+"|[\w$]+)\.(?:"(?:[^"]|"")+"|[\w$]+))\s+(?:as\s+)?([a-z_]\w*)\s+on\s+(\S.*)$', 'i');
    if parts is null or pg_catalog.lower(parts[2]) in ('row', 'before') then
      raise exception 'cannot read the join %', pg_catalog.quote_literal(piece)
        using errcode = 'invalid_parameter_value',
          hint = 'Write schema.table alias on condition, and row.column for the changed row: public.orders o on o.id = row.order_id';
    end if;
    place := place + 1;
    rel := pg_catalog.to_regclass(parts[1]);
    alias := pg_catalog.lower(parts[2]);
    select pg_catalog.string_agg(coalesce('"row".' || pg_catalog.quote_ident(t.col), t.token), '' order by t.place) into condition
      from cache_invalidation.join_tokens(parts[3]) as t;
    if rel is null then
      raise exception 'the joined table % does not exist', parts[1]
        using errcode = 'undefined_table', hint = 'Check the spelling; the schema is needed.';
    end if;
    return next;
  end loop;
end
$$;

-- The columns of the watched table that a declaration names: in the target, in the join, in columns.
create function cache_invalidation.named_columns(target text, columns text[], join_clause text) returns text[]
language sql stable
return array(
  select distinct named.col
  from (
    select s.col from cache_invalidation.template_segments(target) as s where s.alias is null
    union all
    select unnest(columns)
    union all
    select t.col from cache_invalidation.join_tokens(join_clause) as t
  ) as named
  where named.col is not null
  order by named.col
);
