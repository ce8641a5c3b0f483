-- The functions that edge functions call: which quota decides, what a summary adds up to, the verdict that comes with each,
-- and who may call them.
begin;
select plan(30);

insert into public.org_members (org_id, user_id, role) values
('org-a', 'aaaaaaaa-0000-4000-8000-000000000001', 'owner'),
('org-b', 'bbbbbbbb-0000-4000-8000-000000000001', 'member');
insert into public.quotas (org_id, provider, model, token_limit, used) values
('org-a', 'p', 'm', 100, 10),
('org-a', 'p', null, 200, 20),
('org-a', null, null, 300, 30);
insert into public.usage_events (
  org_id, provider, model, requests, input_tokens, cached_tokens, output_tokens, cost, occurred_at
) values
('org-a', 'p', 'm', 1, 100, 10, 5, 0.1, '2026-11-01 00:00:00+00'),
('org-a', 'p', 'm', 2, 200, 0, 5, 0.2, '2026-11-01 23:59:59.999+00'),
('org-a', 'p', 'n', 1, 7, 7, 0, null, '2026-11-02 12:00:00+00'),
('org-a', null, null, 1, 1, 0, 0, 0.000000000003, '2026-11-02 12:00:00+00'),
('org-a', 'p', 'm', 50, 9000, 0, 0, 9, '2026-10-31 23:59:59.999+00'),
('org-a', 'p', 'm', 50, 9000, 0, 0, 9, '2026-11-03 00:00:00+00'),
('org-b', 'p', 'm', 99, 9999, 0, 0, 99, '2026-11-01 12:00:00+00');

set local role authenticated;
set local request.jwt.claims = '{"sub": "aaaaaaaa-0000-4000-8000-000000000001", "role": "authenticated"}';

select is(
  public.quota_answer('org-a', asked.provider, asked.model) #>> '{value,limit}',
  asked.expected,
  'quota for ' || asked.provider || '/' || asked.model
)
from (
  values ('p', 'm', '100'), ('p', 'another', '200'), ('another', 'm', '300'), ('another', 'another', '300')
) as asked (provider, model, expected);
select is(public.quota_answer('org-a', 'p', 'm') -> 'authorised', 'true', 'a member is authorised');
select is(public.quota_answer('org-a', 'p', 'm') -> 'member', '{"role": "owner"}', 'and told as what');
select matches(
  public.quota_answer('org-a', 'p', 'm') #>> '{value,resets_at}',
  '^\d{4}-\d\d-01T00:00:00\.000Z$',
  'the end of the period is an instant in UTC'
);
set local time zone 'Asia/Kathmandu';
select matches(
  public.quota_answer('org-a', 'p', 'm') #>> '{value,resets_at}',
  '^\d{4}-\d\d-01T00:00:00\.000Z$',
  'whatever the session''s time zone is'
);
select is(
  public.quota_answer('org-b', 'p', 'm'),
  '{"authorised": false, "member": null, "value": null}',
  'a stranger gets the verdict and nothing else'
);
select is(
  public.quota_answer('org-nowhere', 'p', 'm'),
  '{"authorised": false, "member": null, "value": null}',
  'an organisation that does not exist looks the same'
);

select is(
  public.usage_answer('org-a', '2026-11-01', '2026-11-02') #> '{value,totals}',
  '{"requests": 5, "input_tokens": 308, "cached_tokens": 17, "output_tokens": 10, "cost": "0.300000000003",
    "unpriced_requests": 1}',
  'totals: both days whole in UTC, nothing of the days beside them, the cost exact'
);
select is(
  public.usage_answer('org-a', '2026-11-01', '2026-11-02') #> '{value,by_model}',
  '[{"provider": "p", "model": "m", "requests": 3, "input_tokens": 300, "cached_tokens": 10, "output_tokens": 10,
     "cost": "0.3", "unpriced_requests": 0},
    {"provider": "p", "model": "n", "requests": 1, "input_tokens": 7, "cached_tokens": 7, "output_tokens": 0,
     "cost": "0", "unpriced_requests": 1},
    {"provider": null, "model": null, "requests": 1, "input_tokens": 1, "cached_tokens": 0, "output_tokens": 0,
     "cost": "0.000000000003", "unpriced_requests": 0}]',
  'by model, in order, unattributed usage last'
);
select is(
  public.usage_answer('org-a', '2026-11-01', '2026-11-02') #> '{value,by_day}' -> 1,
  '{"date": "2026-11-02", "requests": 2, "input_tokens": 8, "cached_tokens": 7, "output_tokens": 0,
    "cost": "0.000000000003", "unpriced_requests": 1}',
  'by day'
);
select is(
  public.usage_answer('org-a', '2020-01-01', '2020-01-02') -> 'value',
  '{"totals": {"requests": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "cost": "0",
    "unpriced_requests": 0}, "by_model": [], "by_day": []}',
  'no usage is zeros, not nothing'
);
select is(
  public.usage_answer('org-b', '2026-11-01', '2026-11-02'),
  '{"authorised": false, "member": null, "value": null}',
  'a stranger gets the verdict and nothing else'
);

-- The service is authorised without being a member.
reset role;
set local role service_role;
set local request.jwt.claims = '{"role": "service_role"}';
select is(public.quota_answer('org-a', 'p', 'm') -> 'authorised', 'true', 'the service is authorised');
select is(public.quota_answer('org-a', 'p', 'm') -> 'member', 'null', 'and no member');
select is(
  public.usage_answer('org-b', '2026-11-01', '2026-11-01') #>> '{value,totals,requests}',
  '99',
  'and reads every organisation'
);

-- Health: one number, for everyone.
reset role;
set local role anon;
select is(public.cache_health() - 'seconds_behind', '{}', 'cache_health gives one number');
select ok((public.cache_health() ->> 'seconds_behind')::numeric >= 0, 'that is an age');

-- Privileges and bodies.
reset role;
select function_privs_are('public', f.name, f.arguments, r.name, r.privileges)
from (
  values
  ('quota_answer', array['text', 'text', 'text']),
  ('usage_answer', array['text', 'date', 'date'])
) as f (name, arguments)
cross join (
  values ('anon', array[]::text []), ('authenticated', array['EXECUTE']), ('service_role', array['EXECUTE'])
) as r (name, privileges);
select is_empty(
  $$select p.proname
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('quota_answer', 'usage_answer', 'record_usage')
      and (p.prosecdef or p.prosqlbody is null or p.proconfig is distinct from array['search_path=""'])$$,
  'they run with the caller''s rights, standard bodies and an empty search path'
);
select is_empty(
  $$select p.proname
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'public'::regnamespace and p.prosecdef
      and p.proname <> 'cache_health' and p.proname ~ '_answer$|^record_usage$|^cache_health$'$$,
  'cache_health alone runs with its owner''s rights'
);
select results_eq(
  $$select distinct d.refobjid::regclass::text
    from pg_catalog.pg_depend as d
    where d.classid = 'pg_proc'::regclass and d.refclassid = 'pg_class'::regclass
      and d.objid = 'public.quota_answer(text, text, text)'::regprocedure
    order by 1$$,
  array['org_members', 'quotas'],
  'Postgres knows which tables quota_answer depends on'
);
select throws_ok(
  'drop table public.quotas', '2BP01', null, 'and refuses to drop one of them'
);

select * from finish();
rollback;
