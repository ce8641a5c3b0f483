-- Fencepost 2/9: values to key segments, byte for byte as supabase/functions/_shared/cache/protocol/keys.ts does.
--
-- A segment is percent-encoded as encodeURIComponent does, plus `*` and `~`; so `:` separates and nothing else can.
-- More than 200 bytes of UTF-8 become `~` and the lower-case hexadecimal SHA-256 of those bytes. Different values
-- have different segments: `~` and `%` never stand for themselves, and each rendering below is one-to-one.
--
-- segment(value) first renders a value to text: the same text whatever TimeZone, DateStyle or bytea_output say. The canonical
-- forms stand in keys.ts. segment() is overloaded, so the column's type picks the rendering when the capture function is planned,
-- also after the type has changed. There is no overload for types without a canonical text (floating point, json, arrays, …):
-- watch() refuses them. NULL gives NULL everywhere.
--
-- Speed: Postgres parses a SQL function that it does not inline again at each statement (measured: 100 µs). An inlined one makes the
-- trigger's statement larger, which costs more at its start than it saves later. So the common renderings are plpgsql, whose
-- plans are kept, or one cast, which is inlined.
--
-- encode_segment, encode_special_segment and segment(text) have no `set search_path`, which would cost as much as all the rest of
-- them. Instead every name in them is qualified, and the capture functions that call them have one. E'…' means the same string
-- whatever standard_conforming_strings is in the writer's session.

-- The part of encode_segment that few values need: special bytes, or long values. Alternating runs of plain and special
-- characters; a special run is encoded as a whole.
create function cache_invalidation.encode_special_segment(value text) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  encoded text := '';
  remainder text collate pg_catalog."C" := value;
  run text;
begin
  if pg_catalog.octet_length(value) > 200 then
    return '~' || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(value, 'UTF8')), 'hex');
  end if;
  loop
    run := pg_catalog.substring(remainder, '^[A-Za-z0-9_.!''()-]+');
    if run is not null then
      encoded := encoded || run;
      remainder := pg_catalog.substr(remainder, pg_catalog.length(run) + 1);
    end if;
    run := pg_catalog.substring(remainder, '^[^A-Za-z0-9_.!''()-]+');
    exit when run is null;
    encoded := encoded
      || pg_catalog.upper(pg_catalog.regexp_replace(pg_catalog.encode(pg_catalog.convert_to(run, 'UTF8'), 'hex'), '(..)', E'%\\1', 'g'));
    remainder := pg_catalog.substr(remainder, pg_catalog.length(run) + 1);
  end loop;
  return encoded;
end
$$;

-- Takes any text, gives its segment. The plain case (no special byte, not long) costs one regular expression. The length is
-- compared first, because a regular expression over 256 MB fails. (OR promises no order; Postgres evaluates it from the left.)
create function cache_invalidation.encode_segment(value text) returns text
language plpgsql immutable strict parallel safe
as $$
begin
  if pg_catalog.octet_length(value) > 200 or value collate pg_catalog."C" ~ '[^A-Za-z0-9_.!''()-]' then
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
  if pg_catalog.octet_length(value) > 200 or value collate pg_catalog."C" ~ '[^A-Za-z0-9_.!''()-]' then
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

-- As keys.ts: no trailing zeros after the point, no exponent, no negative zero. 1.50 and 1.5 are one value and one key.
create function cache_invalidation.segment(value numeric) returns text
language sql immutable parallel safe
return case
  when octet_length(trim_scale(value)::text) > 200 then cache_invalidation.encode_special_segment(trim_scale(value)::text)
  else trim_scale(value)::text
end;

-- As keys.ts: true or false.
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

-- The label. Not value::text: the enum's owner may have made a cast to text, which would run with the rights of the capture
-- function. (A polymorphic function cannot have an unquoted body.)
create function cache_invalidation.segment(value anyenum) returns text
language sql stable parallel safe
as $$ select cache_invalidation.segment(pg_catalog.textin(pg_catalog.enum_out(value))) $$;
