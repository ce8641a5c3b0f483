-- Made-up tenants to try things with, for development and tests; they belong into no real project. Comes after
-- prices.sql, by which their usage is priced. Safe to run again: it never adds a row twice.
--
-- The users are who the tokens of the local stack and of the tests speak for:
--   11111111-1111-4111-8111-111111111111  a member of org-acme (the printed user token)
--   22222222-2222-4222-8222-222222222222  the owner of org-acme
--   33333333-3333-4333-8333-333333333333  was a member of org-acme and was removed
--   44444444-4444-4444-8444-444444444444  the owner of another tenant, org-globex
--   55555555-5555-4555-8555-555555555555  a member of org-initech and of org-globex
insert into public.organizations (id, name) values
('org-acme', 'Acme'),
('org-globex', 'Globex'),
('org-initech', 'Initech')
on conflict do nothing;

insert into public.org_members (org_id, user_id, role) values
('org-acme', '11111111-1111-4111-8111-111111111111', 'member'),
('org-acme', '22222222-2222-4222-8222-222222222222', 'owner'),
('org-globex', '44444444-4444-4444-8444-444444444444', 'owner'),
('org-globex', '55555555-5555-4555-8555-555555555555', 'member'),
('org-initech', '55555555-5555-4555-8555-555555555555', 'admin')
on conflict do nothing;

-- A quota for a model, for a provider, and for everything else; one nearly used up; one exceeded.
insert into public.quotas (org_id, provider, model, token_limit, used) values
('org-acme', 'openai', 'gpt-5-mini', 1000000, 250000),
('org-acme', 'anthropic', null, 5000000, 1200000),
('org-acme', null, null, 20000000, 3000000),
('org-globex', 'openai', 'gpt-5-mini', 500000, 499000),
('org-initech', 'openai', 'gpt-5-nano', 100000, 120000)
on conflict do nothing;

insert into public.sessions (id, user_id, org_id, state) values
('session-acme-1', '11111111-1111-4111-8111-111111111111', 'org-acme', '{"step": "draft", "model": "gpt-5-mini"}'),
('session-acme-2', '22222222-2222-4222-8222-222222222222', 'org-acme', '{"step": "review"}'),
('session-globex-1', '44444444-4444-4444-8444-444444444444', 'org-globex', '{"step": "draft"}')
on conflict do nothing;

insert into public.user_preferences (user_id, preferences) values
('11111111-1111-4111-8111-111111111111', '{"theme": "dark", "default_model": "openai/gpt-5-mini"}'),
('44444444-4444-4444-8444-444444444444', '{"locale": "de"}')
on conflict do nothing;

-- Two weeks of usage, priced as record_usage() would have. (Not through it: the quotas above should stay as they are.)
insert into public.usage_events (
  org_id, user_id, provider, model, input_tokens, cached_tokens, output_tokens, cost, occurred_at
)
select
  tenant.org_id,
  tenant.user_id,
  price.provider,
  price.model,
  call.input_tokens,
  call.cached_tokens,
  call.output_tokens,
  (
    (call.input_tokens - call.cached_tokens) * price.input_per_mtok
    + call.cached_tokens * price.cached_input_per_mtok
    + call.output_tokens * price.output_per_mtok
  ) * 0.000001,
  now() - make_interval(days => day)
from
  (
    values
    ('org-acme', '11111111-1111-4111-8111-111111111111'),
    ('org-acme', '22222222-2222-4222-8222-222222222222'),
    ('org-globex', '44444444-4444-4444-8444-444444444444')
  ) as tenant (org_id, user_id)
cross join generate_series(0, 13) as day
cross join lateral (
  values
  ('openai', 'gpt-5-mini', 4000 + 130 * day, 1000, 900 + 40 * day),
  ('anthropic', 'claude-sonnet-5-5', 7000 + 210 * day, 3000, 1500 + 70 * day)
) as call (provider, model, input_tokens, cached_tokens, output_tokens)
inner join public.model_prices as price on price.provider = call.provider and price.model = call.model
where not exists (select from public.usage_events as already where already.org_id = tenant.org_id);
