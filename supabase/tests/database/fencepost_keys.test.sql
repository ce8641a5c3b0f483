-- Segments: percent-encoding, hashing, and the canonical text of each type. (Equality with TypeScript over all of Unicode
-- is tests/capture/encoding.test.ts.)
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select no_plan();

select is(cache_invalidation.segment(raw), encoded, 'segment of ' || quote_literal(raw))
from (values
  ('', ''), ('abc', 'abc'), ('AZaz09-_.!''()', 'AZaz09-_.!''()'), ('*', '%2A'), ('~', '%7E'), ('%', '%25'), (':', '%3A'), ('?', '%3F'), ('[', '%5B'),
  (E'a\nb', 'a%0Ab'), ('a b', 'a%20b'), ('%2A', '%252A'), ('é', '%C3%A9'), ('😀', '%F0%9F%98%80'), ('שלום', '%D7%A9%D7%9C%D7%95%D7%9D'),
  ('ai21.jamba-1-5-large-v1:0', 'ai21.jamba-1-5-large-v1%3A0'), (E'\u0001', '%01'), (E'\U0010FFFF', '%F4%8F%BF%BF'), (E'\\', '%5C'), ('/', '%2F'), ('+', '%2B'), ('&=#', '%26%3D%23')
) as v(raw, encoded);
select is(cache_invalidation.segment(repeat('a', 200)), repeat('a', 200), '200 bytes stay');
select is(cache_invalidation.segment(repeat('a', 201)), '~' || encode(sha256(repeat('a', 201)::bytea), 'hex'), '201 bytes are hashed');
select is(cache_invalidation.segment(repeat('é', 100)), repeat('%C3%A9', 100), '200 bytes of two-byte characters stay');
select is(cache_invalidation.segment(repeat('é', 101)), '~' || encode(sha256(convert_to(repeat('é', 101), 'UTF8')), 'hex'), '202 bytes are hashed');
select is(length(cache_invalidation.segment(repeat('model', 2048))), 65, 'a 10 kB model name');
select isnt(cache_invalidation.segment(repeat('a', 201)), cache_invalidation.segment('~' || encode(sha256(repeat('a', 201)::bytea), 'hex')), 'a value cannot pretend to be a hash');
select is(cache_invalidation.segment(null::text), null, 'NULL');

select is(cache_invalidation.segment(raw::numeric), encoded, 'numeric ' || raw)
from (values ('1.50', '1.5'), ('100', '100'), ('100.00', '100'), ('-0.0', '0'), ('0.1', '0.1'), ('1e3', '1000'), ('NaN', 'NaN'), ('-Infinity', '-Infinity')) as v(raw, encoded);
select matches(cache_invalidation.segment((repeat('9', 300))::numeric), '^~[0-9a-f]{64}$', 'a numeric of 300 digits');
select is(cache_invalidation.segment('x'::char(5)), 'x', 'char(n) without its padding');
select is(cache_invalidation.segment(true) || cache_invalidation.segment(false), 'truefalse', 'boolean');
select is(cache_invalidation.segment(null::boolean), null, 'boolean NULL');
select is(cache_invalidation.segment(('\x' || repeat('ab', 101))::bytea), '~' || encode(sha256(repeat('ab', 101)::bytea), 'hex'), 'long bytea');

set local timezone = 'America/St_Johns';
set local datestyle = 'German';
select is(cache_invalidation.segment(raw::timestamptz), encoded, 'timestamptz ' || raw)
from (values
  ('2026-11-01 00:00:00+00', '2026-11-01T00%3A00%3A00Z'), ('2026-11-01 00:00:00.12+00', '2026-11-01T00%3A00%3A00.12Z'),
  ('2026-11-01 00:00:00.000001+00', '2026-11-01T00%3A00%3A00.000001Z'), ('1969-12-31 23:59:59.999999+00', '1969-12-31T23%3A59%3A59.999999Z'),
  ('0001-01-01 00:00:00+00', '0001-01-01T00%3A00%3A00Z'), ('9999-12-31 23:59:59.999999+00', '9999-12-31T23%3A59%3A59.999999Z'),
  ('0001-01-01 00:00:00+00 BC', null), ('0044-03-15 00:00:00+00 BC', null), ('12026-01-01 00:00:00+00', null), ('infinity', null), ('-infinity', null)
) as v(raw, encoded);
select is(cache_invalidation.segment(raw::date), encoded, 'date ' || raw)
from (values ('2026-02-28', '2026-02-28'), ('0001-01-01', '0001-01-01'), ('9999-12-31', '9999-12-31'), ('0001-12-31 BC', null), ('4713-01-01 BC', null), ('5874897-12-31', null), ('infinity', null)) as v(raw, encoded);
select is(cache_invalidation.segment(timestamp '2026-11-01 01:02:03.004'), '2026-11-01T01%3A02%3A03.004', 'timestamp');
select is(cache_invalidation.segment(now()), cache_invalidation.segment(now() at time zone 'UTC' at time zone 'UTC'), 'an instant, whatever the zone');

select * from finish();
rollback;
