-- The workbench's reference tables: what an application that meters language models keeps, and what the caches hold.
--
-- Two rules that other parts rely on: the columns that cache keys are made of are called org_id, provider, model, id and
-- user_id and are text (an identifier of any shape is a valid one); every other column has a default or may be null.
--
-- There are no foreign keys on purpose. Usage arrives at a high rate, and each row that refers to an organisation would lock
-- that organisation's row; imports arrive in any order. What a foreign key's cascade would have removed with an
-- organisation, a trigger removes (below), because a membership that outlives its organisation would still open doors.

create table public.organizations (
  id text primary key,
  name text not null default '',
  created_at timestamptz not null default now()
);

comment on table public.organizations is 'Tenants. Everything else refers to them by org_id.';

create table public.org_members (
  org_id text not null,
  user_id text not null,
  role text not null default 'member' check (role in ('owner', 'admin', 'member')),
  created_at timestamptz not null default now(),
  primary key (org_id, user_id)
);

comment on table public.org_members is 'Who belongs to which organisation. Every policy of an organisation''s data asks this table.';

-- Policies look members up by user first.
create index org_members_by_user on public.org_members (user_id, org_id);

create table public.quotas (
  quota_id bigint generated always as identity primary key,
  org_id text not null,
  -- A quota without a model covers the provider's models, one without a provider the whole organisation. The most specific
  -- quota alone counts and decides.
  provider text,
  model text,
  -- Tokens a period, input and output together; null is unlimited. The bound keeps every figure exact as a JSON number.
  token_limit bigint check (token_limit between 0 and 9007199254740991),
  -- Tokens used in the running period, kept by record_usage().
  used bigint not null default 0 check (used between 0 and 9007199254740991),
  period text not null default 'month' check (period in ('hour', 'day', 'week', 'month')),
  -- When the running period ends (UTC); an infinite one would be no date in JSON. From then on readers count `used` as 0; the next record_usage() writes that down.
  resets_at timestamptz not null default (
    (date_trunc('month', now() at time zone 'utc') + interval '1 month') at time zone 'utc'
  ) check (isfinite(resets_at)),
  updated_at timestamptz not null default now(),
  check (provider is not null or model is null),
  unique nulls not distinct (org_id, provider, model)
);

comment on table public.quotas is 'Token allowances of an organisation: for a model, a provider (model null) or everything (both null).';

create table public.sessions (
  id text primary key,
  user_id text,
  org_id text,
  status text not null default 'active',
  state jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

comment on table public.sessions is 'State of a user''s workbench session. Readable by that user alone.';

create index sessions_by_user on public.sessions (user_id);

create table public.model_prices (
  provider text not null,
  model text not null,
  -- List prices for a million tokens; null is not known, or not offered (an embedding has no output).
  -- The upper bound also refuses NaN and Infinity, which numeric would accept and no arithmetic survives. More decimals than
  -- 30 are a mistake, and more than the cost estimate reads.
  input_per_mtok numeric check (input_per_mtok >= 0 and input_per_mtok < 1000000 and scale(input_per_mtok) <= 30),
  cached_input_per_mtok numeric check (
    cached_input_per_mtok >= 0 and cached_input_per_mtok < 1000000 and scale(cached_input_per_mtok) <= 30
  ),
  output_per_mtok numeric check (output_per_mtok >= 0 and output_per_mtok < 1000000 and scale(output_per_mtok) <= 30),
  -- Costs are summed without looking at the currency, and summaries call the sum US dollars.
  currency text not null default 'USD' check (currency = 'USD'),
  -- Where the figures were read, and when.
  source text,
  checked_on date,
  updated_at timestamptz not null default now(),
  primary key (provider, model)
);

comment on table public.model_prices is 'List prices of language models, the same for every tenant.';

create table public.usage_events (
  id text primary key default gen_random_uuid()::text,
  org_id text not null,
  user_id text,
  provider text,
  model text,
  requests integer not null default 1 check (requests >= 0),
  -- All input tokens; of these, cached_tokens were read from the provider's prompt cache. Bounded as quotas.used is.
  input_tokens bigint not null default 0 check (input_tokens between 0 and 9007199254740991),
  cached_tokens bigint not null default 0 check (cached_tokens between 0 and 9007199254740991),
  output_tokens bigint not null default 0 check (output_tokens between 0 and 9007199254740991),
  -- What the tokens cost by the prices of that moment; null where no price was known.
  cost numeric check (cost >= 0 and cost < 1e15),
  occurred_at timestamptz not null default now(),
  check (cached_tokens <= input_tokens)
);

comment on table public.usage_events is 'One row a metered call (or batch of calls). Append-only; record_usage() writes it.';

-- A summary reads one organisation's days.
create index usage_events_by_org_and_time on public.usage_events (org_id, occurred_at);

create table public.user_preferences (
  user_id text primary key,
  preferences jsonb not null default '{}',
  updated_at timestamptz not null default now()
);

comment on table public.user_preferences is 'A user''s own settings; no row means the defaults.';

create function public.remove_what_belonged_to_organizations() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  delete from public.org_members where org_id in (select gone.id from gone);
  delete from public.quotas where org_id in (select gone.id from gone);
  delete from public.sessions where org_id in (select gone.id from gone);
  -- Usage stays: it is what invoices are made from, and without members nobody but the service sees it.
  return null;
end;
$$;

comment on function public.remove_what_belonged_to_organizations() is
  'Removes members, quotas and sessions of deleted organisations, as a cascade would.';

create trigger remove_what_belonged_to_organizations
after delete on public.organizations
referencing old table as gone
for each statement execute function public.remove_what_belonged_to_organizations();
