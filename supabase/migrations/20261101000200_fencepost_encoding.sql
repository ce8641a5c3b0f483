-- Fencepost: values to key segments, byte for byte as supabase/functions/_shared/cache/protocol/keys.ts does.
--
-- A segment is percent-encoded as encodeURIComponent does, plus `*` and `~`; so `:` separates and nothing else can.
-- More than 200 bytes of UTF-8 become `~` and the lower-case hexadecimal SHA-256 of those bytes. Different values
-- have different segments: `~` and `%` never stand for themselves, and each rendering below is one-to-one.
--
-- The same value has the same text whatever TimeZone, DateStyle or bytea_output say. The canonical forms stand in keys.ts. There is
-- no overload for types without a canonical text (floating point, json, arrays, …): watch() refuses them. NULL gives NULL.

-- Alternating runs of plain and special characters; a special run is encoded as a whole.
create function cache_invalidation.segment(value text) returns text language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  encoded text := '';
  remainder text collate "C" := value;
  run text;
begin
  if octet_length(value) > 200 then
    return '~' || encode(sha256(convert_to(value, 'UTF8')), 'hex');
  end if;
  loop
    run := substring(remainder, '^[A-Za-z0-9_.!''()-]+');
    if run is not null then
      encoded := encoded || run;
      remainder := substr(remainder, length(run) + 1);
    end if;
    run := substring(remainder, '^[^A-Za-z0-9_.!''()-]+');
    exit when run is null;
    encoded := encoded || upper(regexp_replace(encode(convert_to(run, 'UTF8'), 'hex'), '(..)', E'%\\1', 'g'));
    remainder := substr(remainder, length(run) + 1);
  end loop;
  return encoded;
end
$$;

-- No trailing zeros after the point, no exponent, no negative zero. 1.50 and 1.5 are one value and one key.
create function cache_invalidation.segment(value numeric) returns text language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return cache_invalidation.segment(trim_scale(value)::text);

create function cache_invalidation.segment(value boolean) returns text language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case when value then 'true' when not value then 'false' end;

-- lower-case hexadecimal, without \x
create function cache_invalidation.segment(value bytea) returns text language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return cache_invalidation.segment(encode(value, 'hex'));

-- Dates and times are ISO 8601: docs/capture.md#watch. Readers' builders take the years 0001 to 9999. Any other value gives NULL, which
-- widens the target as NULL does.
create function cache_invalidation.segment(value timestamp) returns text language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case when value between '0001-01-01' and '9999-12-31 23:59:59.999999'
  then cache_invalidation.segment(rtrim(rtrim(to_char(value, 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.')) end;

create function cache_invalidation.segment(value timestamptz) returns text language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return cache_invalidation.segment(value at time zone 'UTC') || 'Z';

create function cache_invalidation.segment(value date) returns text language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case when value between '0001-01-01' and '9999-12-31' then to_char(value::timestamp, 'YYYY-MM-DD') end;
