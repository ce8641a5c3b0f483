-- record_usage(): the one way usage is written. It charges the quota that decides, prices the call, and keeps the event.
--
-- In one transaction, so that a quota and its events never disagree. Written with a standard body: Postgres checks it when it
-- is created and records which tables it depends on.

create function public.record_usage(
  org_id text,
  provider text,
  model text,
  input_tokens bigint default 0,
  output_tokens bigint default 0,
  cached_tokens bigint default 0,
  user_id text default null,
  requests integer default 1
) returns text
language sql
volatile
security invoker
set search_path = ''
begin atomic
  -- The most specific quota alone is charged: the model's, else the provider's, else the organisation's. A period that has
  -- ended starts again at 0. Two callers at once take turns on the row, and the second adds to what the first wrote.
  update public.quotas as q
  set
    used = least(
      case when q.resets_at <= now() then 0 else q.used end
      + record_usage.input_tokens + record_usage.output_tokens,
      9007199254740991
    ),
    resets_at = case
      when q.resets_at <= now()
        then (date_trunc(q.period, now() at time zone 'utc') + ('1 ' || q.period)::interval) at time zone 'utc'
      else q.resets_at
    end,
    updated_at = now()
  where q.quota_id = (
    select c.quota_id
    from public.quotas as c
    where
      c.org_id = record_usage.org_id
      and (c.provider is null or c.provider = record_usage.provider)
      and (c.model is null or c.model = record_usage.model)
    order by (c.model is null), (c.provider is null)
    limit 1
  );

  insert into public.usage_events (
    org_id, user_id, provider, model, requests, input_tokens, cached_tokens, output_tokens, cost
  )
  select
    record_usage.org_id,
    record_usage.user_id,
    record_usage.provider,
    record_usage.model,
    record_usage.requests,
    record_usage.input_tokens,
    record_usage.cached_tokens,
    record_usage.output_tokens,
    -- A price that is not known makes the cost unknown, unless none of those tokens were used.
    (
      case
        when record_usage.input_tokens = record_usage.cached_tokens then 0
        else (record_usage.input_tokens - record_usage.cached_tokens) * p.input_per_mtok
      end
      + case
        when record_usage.cached_tokens = 0 then 0
        else record_usage.cached_tokens * coalesce(p.cached_input_per_mtok, p.input_per_mtok)
      end
      + case when record_usage.output_tokens = 0 then 0 else record_usage.output_tokens * p.output_per_mtok end
    ) * 0.000001
  from (select 1) as always
  left join public.model_prices as p
    on p.provider = record_usage.provider and p.model = record_usage.model
  returning id;
end;

comment on function public.record_usage(text, text, text, bigint, bigint, bigint, text, integer) is
  'Charges the deciding quota and inserts a usage event; returns the event''s id. For the service: users do not meter themselves.';

revoke all on function public.record_usage(text, text, text, bigint, bigint, bigint, text, integer)
from public, anon, authenticated, service_role;
grant execute on function public.record_usage(text, text, text, bigint, bigint, bigint, text, integer) to service_role;
