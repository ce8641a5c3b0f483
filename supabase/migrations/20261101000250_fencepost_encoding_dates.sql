-- Fencepost: dates and times as key segments (see _encoding), as keys.ts has them, ISO 8601:
--
--   date          2026-11-01
--   timestamptz   2026-11-01T09:30:00Z   2026-11-01T09:30:00.25Z   2026-11-01T09:30:00.000001Z      always UTC; up to six
--   timestamp     2026-11-01T09:30:00    2026-11-01T09:30:00.25    digits after the point, without trailing zeros
--
-- So no two instants share a text. Readers' builders take the years 0001 to 9999. Outside of them 0000 is 1 BC, and beyond 0000 to
-- 9999 there is a sign and at least six digits, as in JavaScript; infinity and -infinity stand for themselves. Plus signs and
-- colons are percent-encoded like any other text.

-- The year as toISOString has it; year is Postgres's, where -1 is 1 BC.
create function cache_invalidation.render_year(year integer) returns text
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  shown integer := case when year < 0 then year + 1 else year end;
begin
  if shown between 0 and 9999 then
    return lpad(shown::text, 4, '0');
  end if;
  return case when shown < 0 then '-' else '+' end || lpad(abs(shown)::text, greatest(6, length(abs(shown)::text)), '0');
end
$$;

create function cache_invalidation.render_timestamp(value timestamp) returns text
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  if not isfinite(value) then
    return value::text;
  end if;
  return cache_invalidation.render_year(extract(year from value)::integer)
    || rtrim(rtrim(to_char(value, '"-"MM"-"DD"T"HH24":"MI":"SS"."US'), '0'), '.');
end
$$;

create function cache_invalidation.segment(value date) returns text
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  if not isfinite(value) then
    return value::text;
  end if;
  return cache_invalidation.segment(
    cache_invalidation.render_year(extract(year from value)::integer)
    -- not to_char, which goes through timestamptz: it ends before date does, and its zone would matter
    || '-' || lpad(extract(month from value)::text, 2, '0') || '-' || lpad(extract(day from value)::text, 2, '0'));
end
$$;

create function cache_invalidation.segment(value timestamptz) returns text
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return cache_invalidation.segment(
    cache_invalidation.render_timestamp(value at time zone 'UTC') || case when isfinite(value) then 'Z' else '' end);
end
$$;

create function cache_invalidation.segment(value timestamp) returns text
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return cache_invalidation.segment(cache_invalidation.render_timestamp(value));
end
$$;
