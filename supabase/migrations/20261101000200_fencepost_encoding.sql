-- Fencepost 2/9: values to key segments, byte for byte as supabase/functions/_shared/keys.ts does.
--
-- A segment is percent-encoded as encodeURIComponent does, plus `*` and `~`; so `:` separates and nothing else can.
-- More than 200 bytes of UTF-8 become `~` and the lower-case hexadecimal SHA-256 of those bytes. Different values
-- have different segments: `~` and `%` never stand for themselves, and each rendering below is one-to-one.
--
-- segment(value) first renders a value to text: the same text whatever TimeZone, DateStyle or bytea_output say. It is
-- overloaded, so the column's type picks the rendering when the capture function is planned, also after the type
-- changed. There is no overload for types whose text is not canonical (floating point, json, arrays, …): watch()
-- refuses them.
--
-- Speed: a SQL function that Postgres does not inline is parsed again at each statement (measured: 100 µs), and an inlined
-- one makes the trigger's statement larger, which costs more at its start than it saves later. So the common renderings
-- are plpgsql, whose plans are kept, or one cast, which is inlined. NULL gives NULL everywhere.
-- encode_segment and segment(text) have no `set search_path`, which would cost as much as all the rest of them; nothing in
-- them depends on it, and the capture functions that call them have an empty one.

-- The part of encode_segment that few values need: special bytes, or long values.
create function cache_invalidation.encode_special_segment(value text) returns text
language plpgsql immutable strict parallel safe
set search_path = ''
as $$
begin
  if octet_length(value) > 200 then
    return '~' || encode(sha256(convert_to(value, 'UTF8')), 'hex');
  end if;
  return (
    select string_agg(
      coalesce(run.parts[1], upper(regexp_replace(encode(convert_to(run.parts[2], 'UTF8'), 'hex'), '(..)', '%\1', 'g'))),
      '' order by run.place)
    from regexp_matches(value collate "C", '([A-Za-z0-9_.!''()-]+)|([^A-Za-z0-9_.!''()-]+)', 'g')
      with ordinality as run(parts, place)
  );
end
$$;

-- Takes any text, gives its segment. The plain case (no special byte, not long) costs one regular expression.
create function cache_invalidation.encode_segment(value text) returns text
language plpgsql immutable strict parallel safe
as $$
begin
  if value collate pg_catalog."C" ~ '[^A-Za-z0-9_.!''()-]' or pg_catalog.octet_length(value) > 200 then
    return cache_invalidation.encode_special_segment(value);
  end if;
  return value;
end
$$;

-- text, varchar, name and char(n), the latter without its padding
create function cache_invalidation.segment(value text) returns text
language plpgsql immutable strict parallel safe
as $$
begin
  if value collate pg_catalog."C" ~ '[^A-Za-z0-9_.!''()-]' or pg_catalog.octet_length(value) > 200 then
    return cache_invalidation.encode_special_segment(value);
  end if;
  return value;
end
$$;

create function cache_invalidation.segment(value smallint) returns text
language sql immutable parallel safe
return value::text;

create function cache_invalidation.segment(value integer) returns text
language sql immutable parallel safe
return value::text;

create function cache_invalidation.segment(value bigint) returns text
language sql immutable parallel safe
return value::text;

-- without trailing zeros after the point: 1.50 and 1.5 are one value and one key
create function cache_invalidation.segment(value numeric) returns text
language sql immutable parallel safe
return case
  when octet_length(trim_scale(value)::text) > 200 then cache_invalidation.encode_special_segment(trim_scale(value)::text)
  else trim_scale(value)::text
end;

create function cache_invalidation.segment(value boolean) returns text
language sql immutable parallel safe
return case when value then 'true' when not value then 'false' end;

create function cache_invalidation.segment(value uuid) returns text
language sql immutable parallel safe
return value::text;

-- lower-case hexadecimal, without \x
create function cache_invalidation.segment(value bytea) returns text
language sql immutable parallel safe
return case
  when octet_length(value) > 100 then cache_invalidation.encode_special_segment(encode(value, 'hex'))
  else encode(value, 'hex')
end;

-- the label (a polymorphic function cannot have an unquoted body)
create function cache_invalidation.segment(value anyenum) returns text
language sql stable parallel safe
as $$ select cache_invalidation.segment(value::pg_catalog.text) $$;
