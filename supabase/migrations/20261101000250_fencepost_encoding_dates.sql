-- Fencepost: dates and times as key segments (see _encoding). ISO 8601 as JavaScript's toISOString writes it:
--
--   date          2026-11-01
--   timestamptz   2026-11-01T09:30:00.000Z      always UTC; six digits after the point only when the
--   timestamp     2026-11-01T09:30:00.000       microseconds are not whole milliseconds: 2026-11-01T09:30:00.000001Z
--
-- so no two instants share a text, and an instant that JavaScript can hold has the text that JavaScript gives it. Years
-- outside 0000 to 9999 have a sign and at least six digits; 0000 is 1 BC. infinity and -infinity stand for themselves.
-- No plus sign nor colon stays as it is: both are percent-encoded like any other text.

-- The year as toISOString has it; year is Postgres's, where -1 is 1 BC.
create function cache_invalidation.render_year(year integer) returns text
language plpgsql immutable strict parallel safe
set search_path = ''
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
set search_path = ''
as $$
begin
  if not isfinite(value) then
    return value::text;
  end if;
  return cache_invalidation.render_year(extract(year from value)::integer)
    || regexp_replace(to_char(value, '"-"MM"-"DD"T"HH24":"MI":"SS"."US'), '(\.\d{3})000$', '\1');
end
$$;

create function cache_invalidation.segment(value date) returns text
language plpgsql stable strict parallel safe
set search_path = ''
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
set search_path = ''
as $$
begin
  return cache_invalidation.segment(
    cache_invalidation.render_timestamp(value at time zone 'UTC') || case when isfinite(value) then 'Z' else '' end);
end
$$;

create function cache_invalidation.segment(value timestamp) returns text
language plpgsql stable strict parallel safe
set search_path = ''
as $$
begin
  return cache_invalidation.segment(cache_invalidation.render_timestamp(value));
end
$$;
