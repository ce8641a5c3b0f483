-- What a fresh workbench starts with: real list prices, and a few made-up tenants to try things with.
-- Safe to run again: it never adds a row twice, and brings prices up to date.
--
-- The prices: 99 models of 14 providers, US dollars for a million tokens, standard (not batch) service, the base tier where
-- long prompts cost more. `source` is the provider's own page; `checked_on` is the day on which whoever recorded the figure
-- says to have read that page, null where the record does not say. Null prices: there is none (embeddings have no output,
-- some models no cached input), or the record has none. Prices move: check before you invoice.
--
-- Where the figures come from (read in November 2026):
-- * anthropic: Anthropic's pricing and model pages (platform.claude.com), copies that list Claude Haiku 5.5, so of 2026-10-07
--   or later; Sonnet 5.5 and Haiku 5.5 confirmed by github.com/kurofune/claudit 1.9.2, which re-read the page on 2026-10-24.
--   Opus 5, Sonnet 5 and older: a copy made after Opus 5 (2026-07-24) and before Opus 5.5.
-- * openai: gpt-6-astra and gpt-5.6-sol from github.com/anomalyco/models.dev (providers/openai/models, commits e2f67ad6 and
--   47eabd64); gpt-5.2 from the same, commit ecee1e62; gpt-5.4 from github.com/api-evangelist/openai
--   (plans/openai-plans-pricing.yml, 2026-05-04); all others from github.com/pydantic/genai-prices
--   (prices/providers/openai.yml, commit 01d6df8c), which dates each figure.
-- * google: gemini-3.7-flash and gemini-3.8-flash from models.dev (providers/google/models, commits 51cba2e6 and 91a19838;
--   3.8 at its introductory price, which ends with 2026); gemini-3-flash-preview from factquire.com, which quotes Google's
--   page of 2026-07-04; the others from models.dev, commits 96e7a00f, 2593e131, 34fd6673, 0760ceff and 19565ce2.
-- * mistral, deepseek, xai, moonshotai, minimax, zai, cerebras, cohere, perplexity: genai-prices (prices/providers), which
--   dates each figure. zai: list prices, without the launch promotion that ended on 2026-09-09. perplexity: tokens only, a
--   search's request fee comes on top. cerebras: developer tier.
-- * groq: models.dev (providers/groq/models, commits 3beb135e and b035760c); gpt-oss-120b confirmed by tokenmix.ai, which
--   read Groq's page on 2026-06-04.
-- * bedrock: github.com/BerriAI/litellm (model_prices_and_context_window.json, commit 00035b69), on demand, United States;
--   ids as Bedrock writes them, with a colon.

insert into public.model_prices
(provider, model, input_per_mtok, cached_input_per_mtok, output_per_mtok, source, checked_on)
values
('anthropic', 'claude-fable-5-1', 10, 0.25, 50, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-opus-5-5', 4, 0.20, 20, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-opus-5', 5, 0.50, 25, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-opus-4-8', 5, 0.50, 25, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-opus-4-7', 5, 0.50, 25, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-opus-4-6', 5, 0.50, 25, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-opus-4-5', 5, 0.50, 25, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-sonnet-5-5', 2, 0.10, 10, 'platform.claude.com/docs/en/about-claude/pricing', '2026-10-24'),
('anthropic', 'claude-sonnet-5', 2, 0.20, 10, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-sonnet-4-6', 3, 0.30, 15, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-sonnet-4-5', 3, 0.30, 15, 'platform.claude.com/docs/en/about-claude/pricing', null),
('anthropic', 'claude-haiku-5-5', 0.10, 0.01, 0.50, 'platform.claude.com/docs/en/about-claude/pricing', '2026-10-24'),
('anthropic', 'claude-haiku-4-5', 1, 0.10, 5, 'platform.claude.com/docs/en/about-claude/pricing', null),
('openai', 'gpt-6-astra', 10, 1, 50, 'developers.openai.com/api/docs/models', null),
('openai', 'gpt-5.6-sol', 2, 0.20, 10, 'developers.openai.com/api/docs/models', null),
('openai', 'gpt-5.4', 2.50, 0.25, 15, 'developers.openai.com/api/docs/pricing', '2026-05-04'),
('openai', 'gpt-5.4-mini', 0.75, 0.075, 4.50, 'developers.openai.com/api/docs/pricing', '2026-05-04'),
('openai', 'gpt-5.4-nano', 0.20, 0.02, 1.25, 'developers.openai.com/api/docs/pricing', '2026-05-04'),
('openai', 'gpt-5.2', 1.75, 0.175, 14, 'developers.openai.com/api/docs/pricing', null),
('openai', 'gpt-5.1', 1.25, 0.125, 10, 'platform.openai.com/docs/pricing', '2025-11-13'),
('openai', 'gpt-5.1-codex-mini', 0.25, 0.025, 2, 'platform.openai.com/docs/pricing', '2025-11-13'),
('openai', 'gpt-5', 1.25, 0.125, 10, 'platform.openai.com/docs/pricing', '2025-11-13'),
('openai', 'gpt-5-mini', 0.25, 0.025, 2, 'platform.openai.com/docs/pricing', '2025-11-13'),
('openai', 'gpt-5-nano', 0.05, 0.005, 0.40, 'platform.openai.com/docs/pricing', '2025-11-13'),
('openai', 'gpt-5-pro', 15, null, 120, 'platform.openai.com/docs/pricing', '2025-11-13'),
('openai', 'gpt-4.1', 2, 0.50, 8, 'platform.openai.com/docs/pricing', '2025-07-04'),
('openai', 'gpt-4.1-mini', 0.40, 0.10, 1.60, 'platform.openai.com/docs/pricing', '2025-07-04'),
('openai', 'gpt-4.1-nano', 0.10, 0.025, 0.40, 'platform.openai.com/docs/pricing', '2025-07-04'),
('openai', 'gpt-4o', 2.50, 1.25, 10, 'platform.openai.com/docs/pricing', '2025-07-04'),
('openai', 'gpt-4o-mini', 0.15, 0.075, 0.60, 'platform.openai.com/docs/pricing', '2025-07-04'),
('openai', 'o3', 2, 0.50, 8, 'platform.openai.com/docs/pricing', '2025-07-12'),
('openai', 'o4-mini', 1.10, 0.275, 4.40, 'platform.openai.com/docs/pricing', '2025-07-04'),
('openai', 'text-embedding-3-large', 0.13, null, null, 'platform.openai.com/docs/pricing', '2025-07-04'),
('openai', 'text-embedding-3-small', 0.02, null, null, 'platform.openai.com/docs/pricing', '2025-07-04'),
('google', 'gemini-3.8-flash', 0.75, 0.075, 3.75, 'ai.google.dev/gemini-api/docs/pricing', null),
('google', 'gemini-3.7-flash', 1.50, 0.15, 7.50, 'ai.google.dev/gemini-api/docs/pricing', null),
('google', 'gemini-3.5-flash', 1.50, 0.15, 9, 'ai.google.dev/gemini-api/docs/pricing', null),
('google', 'gemini-3.1-pro-preview', 2, 0.20, 12, 'ai.google.dev/gemini-api/docs/pricing', null),
('google', 'gemini-3.1-flash-lite', 0.25, 0.025, 1.50, 'ai.google.dev/gemini-api/docs/pricing', null),
('google', 'gemini-3-flash-preview', 0.50, 0.05, 3, 'ai.google.dev/gemini-api/docs/pricing', '2026-07-04'),
('google', 'gemini-2.5-pro', 1.25, 0.125, 10, 'ai.google.dev/gemini-api/docs/pricing', null),
('google', 'gemini-2.5-flash', 0.30, 0.03, 2.50, 'ai.google.dev/gemini-api/docs/pricing', null),
('google', 'gemini-2.5-flash-lite', 0.10, 0.01, 0.40, 'ai.google.dev/gemini-api/docs/pricing', null),
('mistral', 'mistral-large-2512', 0.50, 0.05, 1.50, 'mistral.ai/pricing/api', '2026-06-09'),
('mistral', 'mistral-medium-3-5', 1.50, 0.15, 7.50, 'mistral.ai/pricing/api', '2026-08-24'),
('mistral', 'mistral-medium-2508', 0.40, 0.04, 2, 'mistral.ai/pricing/api', '2026-08-24'),
('mistral', 'mistral-small-2603', 0.15, 0.015, 0.60, 'mistral.ai/pricing/api', '2026-06-09'),
('mistral', 'ministral-14b-2512', 0.20, 0.02, 0.20, 'mistral.ai/pricing/api', '2026-06-09'),
('mistral', 'ministral-8b-2512', 0.15, 0.015, 0.15, 'mistral.ai/pricing/api', '2026-08-24'),
('mistral', 'ministral-3b-2512', 0.10, 0.01, 0.10, 'mistral.ai/pricing/api', '2026-06-09'),
('mistral', 'codestral-2508', 0.30, 0.03, 0.90, 'mistral.ai/pricing/api', '2026-06-09'),
('mistral', 'devstral-2512', 0.40, 0.04, 2, 'mistral.ai/pricing/api', '2026-06-09'),
('deepseek', 'deepseek-v4-flash', 0.14, 0.0028, 0.28, 'api-docs.deepseek.com/quick_start/pricing', '2026-05-12'),
('deepseek', 'deepseek-v4-pro', 0.435, 0.003625, 0.87, 'api-docs.deepseek.com/quick_start/pricing', '2026-06-02'),
('xai', 'grok-4.5', 2, 0.50, 6, 'docs.x.ai/docs/models', '2026-07-08'),
('xai', 'grok-4.3', 1.25, 0.20, 2.50, 'docs.x.ai/docs/models', '2026-05-12'),
('xai', 'grok-4.20', 1.25, 0.20, 2.50, 'docs.x.ai/docs/models', '2026-06-09'),
('xai', 'grok-4.20-multi-agent', 2, 0.20, 6, 'docs.x.ai/docs/models', '2026-06-09'),
('xai', 'grok-build-0.1', 1, 0.20, 2, 'docs.x.ai/docs/models', '2026-06-09'),
('xai', 'grok-4-1-fast-reasoning', 0.20, 0.05, 0.50, 'docs.x.ai/docs/models', '2026-01-19'),
('xai', 'grok-4-1-fast-non-reasoning', 0.20, 0.05, 0.50, 'docs.x.ai/docs/models', '2026-01-19'),
('xai', 'grok-code-fast-1', 0.20, 0.02, 1.50, 'docs.x.ai/docs/models', '2026-01-19'),
('moonshotai', 'kimi-k3', 3, 0.30, 15, 'platform.kimi.ai/docs/pricing', '2026-07-16'),
('moonshotai', 'kimi-k2.7-code', 0.95, 0.19, 4, 'platform.kimi.ai/docs/pricing', '2026-06-15'),
('moonshotai', 'kimi-k2.7-code-highspeed', 1.90, 0.38, 8, 'platform.kimi.ai/docs/pricing', '2026-08-27'),
('moonshotai', 'kimi-k2.6', 0.95, 0.16, 4, 'platform.kimi.ai/docs/pricing', '2026-05-22'),
('moonshotai', 'kimi-k2.5', 0.60, 0.10, 3, 'platform.kimi.ai/docs/pricing', '2026-03-11'),
('moonshotai', 'moonshot-v1-128k', 2, null, 5, 'platform.kimi.ai/docs/pricing', '2026-03-11'),
('moonshotai', 'moonshot-v1-32k', 1, null, 3, 'platform.kimi.ai/docs/pricing', '2026-03-11'),
('moonshotai', 'moonshot-v1-8k', 0.20, null, 2, 'platform.kimi.ai/docs/pricing', '2026-03-11'),
('minimax', 'MiniMax-M2.7', 0.30, 0.06, 1.20, 'platform.minimax.io/docs/guides/pricing-paygo', '2026-05-23'),
('minimax', 'MiniMax-M2.7-highspeed', 0.60, 0.06, 2.40, 'platform.minimax.io/docs/guides/pricing-paygo', '2026-05-23'),
('minimax', 'MiniMax-M2.5-highspeed', 0.60, 0.03, 2.40, 'platform.minimax.io/docs/guides/pricing-paygo', '2026-05-23'),
('zai', 'GLM-5.3', 1.40, 0.26, 4.40, 'docs.z.ai/guides/overview/pricing', '2026-08-26'),
('zai', 'GLM-5.3-Flash', 0.15, 0.03, 0.50, 'docs.z.ai/guides/overview/pricing', '2026-08-26'),
('zai', 'GLM-5.2', 1.40, 0.26, 4.40, 'docs.z.ai/guides/overview/pricing', '2026-08-04'),
('groq', 'openai/gpt-oss-120b', 0.15, 0.075, 0.60, 'groq.com/pricing', '2026-06-04'),
('groq', 'openai/gpt-oss-20b', 0.075, 0.0375, 0.30, 'groq.com/pricing', null),
('groq', 'qwen/qwen3.8-27b', 0.80, 0.40, 4, 'groq.com/pricing', '2026-08-29'),
('groq', 'qwen/qwen3-32b', 0.29, null, 0.59, 'groq.com/pricing', null),
('cerebras', 'gpt-oss-120b', 0.35, null, 0.75, 'www.cerebras.ai/pricing', '2025-11-06'),
('cerebras', 'llama-3.3-70b', 0.85, null, 1.20, 'www.cerebras.ai/pricing', '2025-11-07'),
('cerebras', 'llama3.1-8b', 0.10, null, 0.10, 'www.cerebras.ai/pricing', '2025-11-07'),
('cerebras', 'qwen-3-32b', 0.40, null, 0.80, 'www.cerebras.ai/pricing', '2025-11-07'),
('cohere', 'command-a-03-2025', 2.50, null, 10, 'cohere.com/pricing', '2025-07-04'),
('cohere', 'command-r-plus-08-2024', 2.50, null, 10, 'cohere.com/pricing', '2025-07-04'),
('cohere', 'command-r-08-2024', 0.15, null, 0.60, 'cohere.com/pricing', '2025-07-04'),
('cohere', 'command-r7b-12-2024', 0.0375, null, 0.15, 'cohere.com/pricing', '2025-07-04'),
('cohere', 'embed-v4.0', 0.12, null, null, 'cohere.com/pricing', '2025-12-10'),
('perplexity', 'sonar', 1, null, 1, 'docs.perplexity.ai/docs/getting-started/pricing', '2025-07-03'),
('perplexity', 'sonar-pro', 3, null, 15, 'docs.perplexity.ai/docs/getting-started/pricing', '2025-07-03'),
('perplexity', 'sonar-reasoning-pro', 2, null, 8, 'docs.perplexity.ai/docs/getting-started/pricing', '2025-07-03'),
('perplexity', 'sonar-deep-research', 2, null, 8, 'docs.perplexity.ai/docs/getting-started/pricing', '2026-07-21'),
('bedrock', 'amazon.nova-2-lite-v1:0', 0.30, 0.075, 2.50, 'aws.amazon.com/bedrock/pricing', null),
('bedrock', 'amazon.nova-lite-v1:0', 0.06, null, 0.24, 'aws.amazon.com/bedrock/pricing', null),
('bedrock', 'ai21.jamba-1-5-large-v1:0', 2, null, 8, 'aws.amazon.com/bedrock/pricing', null),
('bedrock', 'ai21.jamba-1-5-mini-v1:0', 0.20, null, 0.40, 'aws.amazon.com/bedrock/pricing', null),
('bedrock', 'writer.palmyra-x5-v1:0', 0.60, null, 6, 'aws.amazon.com/bedrock/pricing', null),
('bedrock', 'writer.palmyra-x4-v1:0', 2.50, null, 10, 'aws.amazon.com/bedrock/pricing', null)
on conflict (provider, model) do update set
input_per_mtok = excluded.input_per_mtok,
cached_input_per_mtok = excluded.cached_input_per_mtok,
output_per_mtok = excluded.output_per_mtok,
source = excluded.source,
checked_on = excluded.checked_on,
updated_at = now();

-- Tenants. The users are who the tokens of the local stack and of the tests speak for:
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
