-- Fencepost 2/9: values to key segments, byte for byte as supabase/functions/_shared/keys.ts does.
--
-- A segment is percent-encoded as encodeURIComponent does, plus `*` and `~`; so `:` separates and nothing else can.
-- More than 200 bytes of UTF-8 become `~` and the lower-case hexadecimal SHA-256 of those bytes. Different values
-- have different segments: `~` and `%` never stand for themselves, and each rendering below is one-to-one.
--
-- segment(value) first renders a value to text: the same text whatever TimeZone, DateStyle or bytea_output say. It is
-- overloaded, so the column's type picks the rendering when the capture function is planned, also after the type
-- changed. There is no overload for types whose text is not canonical (floating point, json, arrays, …): watch()
-- refuses them. The functions are plain SQL and small: Postgres inlines them into the trigger's statement.

-- The part of encode_segment that few values need: bytes outside the plain set, or long values.
create function cache_invalidation.encode_special_segment(value text) returns text
language sql immutable strict parallel safe
return case
  when octet_length(value) > 200
    then '~' || encode(sha256(convert_to(value, 'UTF8')), 'hex')
  else (
    select string_agg(
      coalesce(run.parts[1], upper(regexp_replace(encode(convert_to(run.parts[2], 'UTF8'), 'hex'), '(..)', '%\1', 'g'))),
      '' order by run.position)
    from regexp_matches(value collate "C", '([A-Za-z0-9_.!''()-]+)|([^A-Za-z0-9_.!''()-]+)', 'g')
      with ordinality as run(parts, position)
  )
end;

-- Takes any text, gives its segment. The plain case (no special byte, not long) costs one regular expression.
create function cache_invalidation.encode_segment(value text) returns text
language sql immutable strict parallel safe
return case
  when value collate "C" ~ '[^A-Za-z0-9_.!''()-]' or octet_length(value) > 200
    then cache_invalidation.encode_special_segment(value)
  else value
end;

-- text, varchar, name and char(n), the latter without its padding
create function cache_invalidation.segment(value text) returns text
language sql immutable strict parallel safe
return cache_invalidation.encode_segment(value);

create function cache_invalidation.segment(value smallint) returns text
language sql immutable strict parallel safe
return value::text;

create function cache_invalidation.segment(value integer) returns text
language sql immutable strict parallel safe
return value::text;

create function cache_invalidation.segment(value bigint) returns text
language sql immutable strict parallel safe
return value::text;

-- without trailing zeros after the point: 1.50 and 1.5 are one value and one key
create function cache_invalidation.segment(value numeric) returns text
language sql immutable strict parallel safe
return cache_invalidation.encode_segment(trim_scale(value)::text);

create function cache_invalidation.segment(value boolean) returns text
language sql immutable strict parallel safe
return case when value then 'true' else 'false' end;

create function cache_invalidation.segment(value uuid) returns text
language sql immutable strict parallel safe
return value::text;

-- lower-case hexadecimal, without \x
create function cache_invalidation.segment(value bytea) returns text
language sql immutable strict parallel safe
return cache_invalidation.encode_segment(encode(value, 'hex'));

-- the label (a polymorphic function cannot have an unquoted body)
create function cache_invalidation.segment(value anyenum) returns text
language sql stable strict parallel safe
as $$ select cache_invalidation.encode_segment(value::pg_catalog.text) $$;

-- Years as JavaScript's toISOString has them: 0000 is 1 BC, outside 0000 to 9999 a sign and at least six digits.
create function cache_invalidation.render_year(value timestamp) returns text
language sql immutable strict parallel safe
return (
  select case
    when shown.year between 0 and 9999 then lpad(shown.year::text, 4, '0')
    else case when shown.year < 0 then '-' else '+' end || lpad(abs(shown.year)::text, greatest(6, length(abs(shown.year)::text)), '0')
  end
  from (
    select case when extract(year from value) < 0 then extract(year from value)::integer + 1
                else extract(year from value)::integer end as year
  ) as shown
);

-- YYYY-MM-DDTHH:MM:SS.mmm; with six digits after the point only when the microseconds are not whole milliseconds
create function cache_invalidation.render_timestamp(value timestamp) returns text
language sql stable strict parallel safe
return case
  when not isfinite(value) then value::text
  when value >= timestamp '0001-01-01' and value < timestamp '10000-01-01'
    then regexp_replace(to_char(value, 'YYYY-MM-DD"T"HH24:MI:SS.US'), '(\.\d{3})000$', '\1')
  else cache_invalidation.render_year(value)
    || regexp_replace(to_char(value, '"-"MM-DD"T"HH24:MI:SS.US'), '(\.\d{3})000$', '\1')
end;

create function cache_invalidation.segment(value date) returns text
language sql stable strict parallel safe
return case
  when not isfinite(value) then value::text
  when value >= date '0001-01-01' and value <= date '9999-12-31' then to_char(value, 'YYYY-MM-DD')
  -- an offset of 4 713 years at most, so that the cast below cannot leave the range of timestamp
  when value <= date '294276-12-31'
    then cache_invalidation.encode_segment(cache_invalidation.render_year(value::timestamp) || to_char(value::timestamp, '"-"MM-DD'))
  else cache_invalidation.encode_segment('+' || lpad(extract(year from value)::text, 6, '0')
    || '-' || lpad(extract(month from value)::text, 2, '0') || '-' || lpad(extract(day from value)::text, 2, '0'))
end;

-- an instant in UTC, with Z
create function cache_invalidation.segment(value timestamptz) returns text
language sql stable strict parallel safe
return cache_invalidation.encode_segment(cache_invalidation.render_timestamp(value at time zone 'UTC')
  || case when isfinite(value) then 'Z' else '' end);

-- a local time has no zone, hence no Z
create function cache_invalidation.segment(value timestamp) returns text
language sql stable strict parallel safe
return cache_invalidation.encode_segment(cache_invalidation.render_timestamp(value));
