-- Who sees which rows of the workbench's tables: every kind of caller against every table, and what nobody may write.
begin;
select plan(51);

insert into public.organizations (id) values ('org-a'), ('org-b');
insert into public.org_members (org_id, user_id, role) values
('org-a', 'aaaaaaaa-0000-4000-8000-000000000001', 'owner'),
('org-a', 'aaaaaaaa-0000-4000-8000-000000000002', 'member'),
('org-b', 'bbbbbbbb-0000-4000-8000-000000000001', 'owner');
insert into public.quotas (org_id) values ('org-a'), ('org-b');
insert into public.usage_events (org_id) values ('org-a'), ('org-b');
insert into public.sessions (id, user_id, org_id) values
('session-a1', 'aaaaaaaa-0000-4000-8000-000000000001', 'org-a'),
('session-a2', 'aaaaaaaa-0000-4000-8000-000000000002', 'org-a'),
('session-nobody', null, 'org-a');
insert into public.user_preferences (user_id) values
('aaaaaaaa-0000-4000-8000-000000000001'), ('bbbbbbbb-0000-4000-8000-000000000001');
insert into public.model_prices (provider, model) values ('provider-a', 'model-a');

-- What the caller sees of the rows above, as one line.
create function public.seen() returns text
language sql
set search_path = ''
as $$
  select concat_ws(
    ' ',
    'org:' || (select string_agg(id, ',' order by id) from public.organizations where id in ('org-a', 'org-b')),
    'member:' || (select string_agg(user_id, ',' order by user_id) from public.org_members where org_id in ('org-a', 'org-b')),
    'quota:' || (select string_agg(org_id, ',' order by org_id) from public.quotas where org_id in ('org-a', 'org-b')),
    'usage:' || (select string_agg(org_id, ',' order by org_id) from public.usage_events where org_id in ('org-a', 'org-b')),
    'session:' || (select string_agg(id, ',' order by id) from public.sessions where id like 'session-a%' or id = 'session-nobody'),
    'prefs:' || (select string_agg(user_id, ',' order by user_id) from public.user_preferences where user_id ~ '^[ab]{8}-'),
    'price:' || (select model from public.model_prices where model = 'model-a')
  )
$$;

set local role authenticated;

set local request.jwt.claims = '{"sub": "aaaaaaaa-0000-4000-8000-000000000001", "role": "authenticated"}';
select is(
  public.seen(),
  'org:org-a member:aaaaaaaa-0000-4000-8000-000000000001 quota:org-a usage:org-a session:session-a1 '
  'prefs:aaaaaaaa-0000-4000-8000-000000000001 price:model-a',
  'an owner sees their organisation, their own membership, session and preferences, and all prices'
);

set local request.jwt.claims = '{"sub": "aaaaaaaa-0000-4000-8000-000000000002", "role": "authenticated"}';
select is(
  public.seen(),
  'org:org-a member:aaaaaaaa-0000-4000-8000-000000000002 quota:org-a usage:org-a session:session-a2 price:model-a',
  'a member sees the same of the organisation, and their own of the rest'
);

set local request.jwt.claims = '{"sub": "bbbbbbbb-0000-4000-8000-000000000001", "role": "authenticated"}';
select is(
  public.seen(),
  'org:org-b member:bbbbbbbb-0000-4000-8000-000000000001 quota:org-b usage:org-b '
  'prefs:bbbbbbbb-0000-4000-8000-000000000001 price:model-a',
  'another tenant sees nothing of the first'
);

set local request.jwt.claims = '{"sub": "cccccccc-0000-4000-8000-000000000001", "role": "authenticated"}';
select is(public.seen(), 'price:model-a', 'someone without an organisation sees prices only');

set local request.jwt.claims = '{"role": "authenticated"}';
select is(public.seen(), 'price:model-a', 'a token without a subject is nobody: null equals no user id');

reset role;
delete from public.org_members where user_id = 'aaaaaaaa-0000-4000-8000-000000000002';
set local role authenticated;
set local request.jwt.claims = '{"sub": "aaaaaaaa-0000-4000-8000-000000000002", "role": "authenticated"}';
select is(public.seen(), 'session:session-a2 price:model-a', 'a removed member keeps what is theirs and nothing else');

reset role;
grant execute on function public.seen() to anon, service_role;
set local role anon;
select throws_ok('select public.seen()', '42501', null, 'anon may not even ask');
reset role;
set local role service_role;
select matches(public.seen(), 'quota:org-a,org-b .*session-nobody', 'the service sees all of it');

-- Writing.
reset role;
set local role authenticated;
set local request.jwt.claims = '{"sub": "aaaaaaaa-0000-4000-8000-000000000001", "role": "authenticated"}';
select throws_ok(
  format('insert into public.%I default values', tables.name),
  '42501',
  null,
  'a user may not insert into ' || tables.name
)
from (values ('organizations'), ('org_members'), ('quotas'), ('sessions'), ('model_prices'), ('usage_events'))
as tables (name);
select throws_ok(
  format('delete from public.%I', tables.name),
  '42501',
  null,
  'a user may not delete from ' || tables.name
)
from (values ('organizations'), ('org_members'), ('quotas'), ('sessions'), ('model_prices'), ('usage_events'))
as tables (name);
select throws_ok(
  $$update public.quotas set used = 0$$, '42501', null, 'a user may not reset what their quota has used'
);
select throws_ok(
  $$update public.org_members set role = 'owner'$$, '42501', null, 'a user may not make themselves an owner'
);
select lives_ok(
  $$update public.user_preferences set preferences = '{"theme": "light"}' where true$$,
  'a user may change their preferences'
);
select results_eq(
  $$select user_id from public.user_preferences where preferences ->> 'theme' = 'light'$$,
  array['aaaaaaaa-0000-4000-8000-000000000001'],
  'and theirs alone'
);
select throws_ok(
  $$insert into public.user_preferences (user_id) values ('cccccccc-0000-4000-8000-000000000001')$$,
  '42501',
  null,
  'a user may not create preferences for someone else'
);
select throws_ok(
  $$update public.user_preferences set user_id = 'cccccccc-0000-4000-8000-000000000001'$$,
  '42501',
  null,
  'nor give theirs away'
);

reset role;
select results_eq(
  $$select user_id from public.user_preferences where user_id like 'bbbbbbbb%' and preferences = '{}'$$,
  array['bbbbbbbb-0000-4000-8000-000000000001'],
  'the other user''s preferences were not touched'
);

-- Privileges, to the letter: a later migration that widens them fails here.
select table_privs_are('public', tables.name, 'anon', array[]::text [])
from (
  values
  ('organizations'), ('org_members'), ('quotas'), ('sessions'), ('model_prices'), ('usage_events'), ('user_preferences')
) as tables (name);

select table_privs_are('public', tables.name, 'authenticated', array['SELECT'])
from (
  values ('organizations'), ('org_members'), ('quotas'), ('sessions'), ('model_prices'), ('usage_events')
) as tables (name);

select table_privs_are('public', tables.name, 'service_role', array['SELECT', 'INSERT', 'UPDATE', 'DELETE'])
from (
  values
  ('organizations'), ('org_members'), ('quotas'), ('sessions'), ('model_prices'), ('usage_events'), ('user_preferences')
) as tables (name);

select table_privs_are(
  'public', 'user_preferences', 'authenticated', array['SELECT', 'INSERT', 'UPDATE', 'DELETE']
);

select ok(
  (
    select bool_and(c.relrowsecurity)
    from pg_catalog.pg_class as c
    where
      c.relnamespace = 'public'::regnamespace
      and c.relname in (
        'organizations', 'org_members', 'quotas', 'sessions', 'model_prices', 'usage_events', 'user_preferences'
      )
  ),
  'row-level security is on for every table'
);

-- An organisation that is deleted takes with it what opens doors.
delete from public.organizations where id = 'org-a';
select is_empty(
  $$select org_id from public.org_members where org_id = 'org-a'
    union all select org_id from public.quotas where org_id = 'org-a'
    union all select org_id from public.sessions where org_id = 'org-a'$$,
  'members, quotas and sessions go with their organisation'
);
select isnt_empty($$select id from public.usage_events where org_id = 'org-a'$$, 'its usage stays for the invoice');

select * from finish();
rollback;
