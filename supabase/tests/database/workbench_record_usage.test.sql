-- record_usage(): which quota is charged, what a call costs, when a period starts again, and who may call it.
begin;
select plan(33);

insert into public.quotas (org_id, provider, model, token_limit, used, period, resets_at) values
('org-a', 'p', 'm', 1000, 0, 'month', '2999-01-01'),
('org-a', 'p', null, 1000, 0, 'month', '2999-01-01'),
('org-a', null, null, 1000, 0, 'month', '2999-01-01'),
('org-b', null, null, 1000, 900, 'day', now() - interval '1 second'),
('org-c', null, null, null, 9007199254740990, 'month', '2999-01-01');
insert into public.model_prices (provider, model, input_per_mtok, cached_input_per_mtok, output_per_mtok) values
('p', 'm', 0.25, 0.025, 2),
('p', 'uncached', 0.25, null, 2),
('p', 'embedding', 0.02, null, null);

set local role service_role;
set local request.jwt.claims = '{"role": "service_role"}';

select matches(
  public.record_usage('org-a', 'p', 'm', 1003, 7, 3, '11111111-1111-4111-8111-111111111111'),
  '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
  'it returns the event''s id, which is text'
);
select results_eq(
  $$select used from public.quotas where org_id = 'org-a' order by provider is null, model is null$$,
  array[1010::bigint, 0, 0],
  'the model''s quota alone is charged'
);
select is(
  (select trim_scale(cost)::text from public.usage_events where org_id = 'org-a'),
  '0.000264075',
  'the cost is exact: 1000 at 0.25, 3 cached at 0.025, 7 out at 2 for a million'
);
select is(
  (select concat_ws(' ', requests, input_tokens, cached_tokens, output_tokens, user_id) from public.usage_events where org_id = 'org-a'),
  '1 1003 3 7 11111111-1111-4111-8111-111111111111',
  'the event holds what was given'
);

select isnt(public.record_usage('org-a', 'p', 'uncached', 100, 0, 50), null, 'recorded');
select is(
  (select used from public.quotas where org_id = 'org-a' and provider = 'p' and model is null),
  100::bigint,
  'else the provider''s'
);
select is(
  (select trim_scale(cost)::text from public.usage_events where model = 'uncached'),
  '0.000025',
  'cached input without a price of its own costs what input does'
);
select isnt(public.record_usage('org-a', 'q', null, 5), null, 'recorded');
select is(
  (select used from public.quotas where org_id = 'org-a' and provider is null),
  5::bigint,
  'else the organisation''s'
);
select is((select cost from public.usage_events where provider = 'q'), null, 'an unknown price is not a free call');
select isnt(public.record_usage('org-a', 'p', 'embedding', 1000000), null, 'recorded');
select is(
  (select trim_scale(cost)::text from public.usage_events where model = 'embedding'),
  '0.02',
  'a price that is not needed need not be known'
);

select isnt(public.record_usage('org-b', 'p', 'm', 10), null, 'recorded');
select is((select used from public.quotas where org_id = 'org-b'), 10::bigint, 'a period that has ended starts again');
select is(
  (select resets_at from public.quotas where org_id = 'org-b'),
  (date_trunc('day', now() at time zone 'utc') + interval '1 day') at time zone 'utc',
  'and ends at the next midnight in UTC'
);
select isnt(public.record_usage('org-c', 'p', 'm', 10), null, 'recorded');
select is(
  (select used from public.quotas where org_id = 'org-c'),
  9007199254740991,
  'a counter stops where JSON numbers stop being exact'
);
select lives_ok(
  $$select public.record_usage('org-without-quota', 'p', 'm', 1)$$, 'usage without a quota is kept all the same'
);
select throws_ok(
  $$select public.record_usage('org-a', 'p', 'm', 1, 0, 2)$$, '23514', null, 'more cached than input is refused'
);
select throws_ok($$select public.record_usage('org-a', 'p', 'm', -1)$$, '23514', null, 'negative tokens are refused');
select throws_ok(
  $$select public.record_usage('org-a', 'p', 'm', 9007199254740992)$$, '23514', null, 'tokens that JSON would round are refused'
);
select throws_ok(
  $$select public.record_usage('org-a', 'p', 'm', 0, 9007199254740992)$$, '23514', null, 'of output as well'
);
select is(
  public.record_usage('org-a', 'p', 'm', 9007199254740991) is not null, true, 'the greatest exact number is accepted'
);

select throws_ok(
  format($$insert into public.model_prices (provider, model, %I) values ('p', 'fine', 0.%s)$$, price, repeat('1', 31)),
  '23514',
  null,
  price || ' with 31 decimals is refused'
)
from unnest(array['input_per_mtok', 'cached_input_per_mtok', 'output_per_mtok']) as price;
select lives_ok(
  format($$insert into public.model_prices (provider, model, input_per_mtok) values ('p', 'fine', 0.%s)$$, repeat('1', 30)),
  '30 decimals are accepted'
);
select throws_ok(
  $$insert into public.model_prices (provider, model, currency) values ('p', 'euro', 'EUR')$$,
  '23514',
  null,
  'another currency is refused: nothing converts it'
);
select throws_ok(
  format($$insert into public.quotas (org_id, resets_at) values ('org-d', %L)$$, forever),
  '23514',
  null,
  'a period that ends at ' || forever || ' is refused'
)
from unnest(array['infinity', '-infinity']) as forever;

reset role;
select function_privs_are(
  'public',
  'record_usage',
  array['text', 'text', 'text', 'bigint', 'bigint', 'bigint', 'text', 'integer'],
  roles.name,
  roles.privileges
)
from (
  values ('anon', array[]::text []), ('authenticated', array[]::text []), ('service_role', array['EXECUTE'])
) as roles (name, privileges);

select * from finish();
rollback;
