-- What the workbench's caches depend on. From here on a committed write to one of these tables makes the cached answers that
-- depended on it unreadable; no application code has to remember to.

select cache_invalidation.watch('public.quotas', 'quota:{org_id}:*');
select cache_invalidation.watch('public.sessions', 'session:{id}:state');
select cache_invalidation.watch('public.model_prices', 'cost:{provider}:{model}');
select cache_invalidation.watch('public.user_preferences', 'user:{user_id}:prefs');
-- Usage arrives all the time: the first event takes effect at once, later ones at most once a minute, the last never lost.
select cache_invalidation.watch('public.usage_events', 'usage:{org_id}:*', min_interval => '1 minute');
select cache_invalidation.watch('public.org_members', 'member:{org_id}:{user_id}');

-- What the cached answers are, for `fencepost audit` to compare them with.
select cache_invalidation.answers(
  'quota:{org}:{provider}:{model}', $$select public.quota_answer($1, $2, $3) -> 'value'$$
);
select cache_invalidation.answers(
  'usage:{org}:{start}:{end}', $$select public.usage_answer($1, $2, $3) -> 'value'$$
);
select cache_invalidation.answers(
  'member:{org}:{user}',
  $$select jsonb_build_object('role', m.role) from public.org_members as m where m.org_id = $1 and m.user_id = $2$$
);
select cache_invalidation.answers(
  'session:{id}:state',
  $$select to_jsonb(s)
      from (select id, user_id, org_id, status, state, updated_at from public.sessions where id = $1) as s$$
);
select cache_invalidation.answers(
  'user:{user}:prefs',
  $$select to_jsonb(p) from (select user_id, preferences from public.user_preferences where user_id = $1) as p$$
);
select cache_invalidation.answers(
  'cost:{provider}:{model}',
  $$select jsonb_build_object(
             'currency', currency, 'input_per_mtok', input_per_mtok::text,
             'cached_input_per_mtok', cached_input_per_mtok::text, 'output_per_mtok', output_per_mtok::text
           )
      from public.model_prices where provider = $1 and model = $2$$
);
