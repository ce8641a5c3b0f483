-- What the edge functions ask on a cache miss: one call, one snapshot, the verdict together with the answer.
--
-- They run with the caller's rights (security invoker), so row-level security decides what they can find. But a caller who is
-- not a member finds the same nothing as a member whose organisation has no row, and under a shared cache key the two must not
-- be mixed up: hence `authorised`, from the same snapshot as the value. Only an authorised answer may be stored.
--
-- Each returns {"authorised": boolean, "member": {"role": text} or null, "value": … or null}. A caller whom row-level security
-- does not bind (the service) is authorised without being a member.
--
-- The bodies are standard SQL: Postgres itself records which tables each depends on.

create function public.quota_answer(org_id text, provider text, model text) returns jsonb
language sql
stable
security invoker
set search_path = ''
begin atomic
  select jsonb_build_object(
    'authorised', membership.role is not null or not row_security_active('public.quotas'),
    'member', case when membership.role is not null then jsonb_build_object('role', membership.role) end,
    -- What the row says, not what follows from the time of day: the reader works out `remaining` when it answers.
    'value', (
      select jsonb_build_object(
        'provider', q.provider,
        'model', q.model,
        'limit', q.token_limit,
        'used', q.used,
        'period', q.period,
        'resets_at', to_char(q.resets_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
      )
      from public.quotas as q
      where
        q.org_id = quota_answer.org_id
        and (q.provider is null or q.provider = quota_answer.provider)
        and (q.model is null or q.model = quota_answer.model)
      order by (q.model is null), (q.provider is null)
      limit 1
    )
  )
  from (select 1) as always
  left join public.org_members as membership
    on membership.org_id = quota_answer.org_id and membership.user_id = (select auth.uid())::text;
end;

comment on function public.quota_answer(text, text, text) is
  'The quota that decides for this organisation, provider and model (model before provider before organisation), with the verdict.';

create function public.usage_answer(org_id text, start_date date, end_date date) returns jsonb
language sql
stable
security invoker
set search_path = ''
begin atomic
  with caller as (
    select
      membership.role,
      membership.role is not null or not row_security_active('public.usage_events') as authorised
    from (select 1) as always
    left join public.org_members as membership
      on membership.org_id = usage_answer.org_id and membership.user_id = (select auth.uid())::text
  ),

  event as (
    select
      e.provider,
      e.model,
      (e.occurred_at at time zone 'utc')::date as day,
      e.requests,
      e.input_tokens,
      e.cached_tokens,
      e.output_tokens,
      e.cost
    from public.usage_events as e
    where
      -- Asked once, before any row: a stranger's request must not make the database read a large tenant's usage.
      (select caller.authorised from caller)
      and e.org_id = usage_answer.org_id
      and e.occurred_at >= (usage_answer.start_date::timestamp at time zone 'utc')
      and e.occurred_at < ((usage_answer.end_date + 1)::timestamp at time zone 'utc')
  ),

  -- One pass over the events makes all three tables of the answer.
  summed as (
    select
      event.provider,
      event.model,
      event.day,
      grouping(event.day) = 0 as is_day,
      grouping(event.model) = 0 as is_model,
      jsonb_build_object(
        'requests', coalesce(sum(event.requests), 0),
        'input_tokens', coalesce(sum(event.input_tokens), 0),
        'cached_tokens', coalesce(sum(event.cached_tokens), 0),
        'output_tokens', coalesce(sum(event.output_tokens), 0),
        -- Text, because a JSON number would be read as a binary fraction.
        'cost', trim_scale(coalesce(sum(event.cost), 0))::text,
        'unpriced_requests', coalesce(sum(event.requests) filter (where event.cost is null), 0)
      ) as figures
    from event
    group by grouping sets ((event.provider, event.model), (event.day), ())
  )

  select jsonb_build_object(
    'authorised', caller.authorised,
    'member', case when caller.role is not null then jsonb_build_object('role', caller.role) end,
    'value', case
      when caller.authorised
        then jsonb_build_object(
          'totals', (select s.figures from summed as s where not s.is_day and not s.is_model),
          'by_model', (
            select coalesce(
              jsonb_agg(
                jsonb_build_object('provider', s.provider, 'model', s.model) || s.figures
                order by s.provider, s.model
              ),
              '[]'
            )
            from summed as s
            where s.is_model
          ),
          'by_day', (
            select coalesce(jsonb_agg(jsonb_build_object('date', s.day) || s.figures order by s.day), '[]')
            from summed as s
            where s.is_day
          )
        )
    end
  )
  from caller;
end;

comment on function public.usage_answer(text, date, date) is
  'Tokens, requests and cost of an organisation from start_date to end_date (UTC, both included), with the verdict.';

-- The public health check: whether the database answers, and how old the oldest invalidation is that no worker has taken yet.
-- It runs with its owner's rights, because the schema of the outbox is closed to the API, and gives away one number.
-- Not a standard body: nothing that capture may want to change in its own schema should hang on this function.
create function public.cache_health() returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  oldest timestamptz;
begin
  select c.at into oldest from cache_invalidation.changes as c order by c.xid limit 1;
  return jsonb_build_object(
    'seconds_behind',
    round(coalesce(greatest(extract(epoch from clock_timestamp() - oldest), 0), 0), 3)
  );
end;
$$;

comment on function public.cache_health() is 'Age in seconds of the oldest pending invalidation; 0 when there is none.';

revoke all on function public.quota_answer(text, text, text) from public, anon, authenticated, service_role;
revoke all on function public.usage_answer(text, date, date) from public, anon, authenticated, service_role;
revoke all on function public.cache_health() from public, anon, authenticated, service_role;
grant execute on function public.quota_answer(text, text, text) to authenticated, service_role;
grant execute on function public.usage_answer(text, date, date) to authenticated, service_role;
grant execute on function public.cache_health() to anon, authenticated, service_role;
