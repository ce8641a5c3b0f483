-- What the workbench's caches depend on. From here on a committed write to one of these tables makes the cached answers that
-- depended on it unreadable; no application code has to remember to.

select cache_invalidation.watch('public.quotas', 'quota:{org_id}:*');
select cache_invalidation.watch('public.sessions', 'session:{id}:state');
select cache_invalidation.watch('public.model_prices', 'cost:{provider}:{model}');
select cache_invalidation.watch('public.user_preferences', 'user:{user_id}:prefs');
-- Usage arrives all the time: the first event takes effect at once, later ones at most once a minute, the last never lost.
select cache_invalidation.watch('public.usage_events', 'usage:{org_id}:*', min_interval => '1 minute');
select cache_invalidation.watch('public.org_members', 'member:{org_id}:{user_id}');
