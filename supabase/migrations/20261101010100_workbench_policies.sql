-- Who may see what. Row-level security decides for everyone who comes through the API; the cached answers have to be exactly
-- as private as these policies say, and tests/functions/matrix.test.ts compares the two.
--
-- `(select auth.uid())` instead of `auth.uid()`: evaluated once a query, not once a row. For the same reason a row's
-- organisation is looked up in the caller's list instead of asking for each row whether the caller is a member.
--
-- The policies behind a shared cache key (quotas, usage, prices) are the same for every member of the organisation: whoever
-- may see the key at all sees the same rows.

alter table public.organizations enable row level security;
alter table public.org_members enable row level security;
alter table public.quotas enable row level security;
alter table public.sessions enable row level security;
alter table public.model_prices enable row level security;
alter table public.usage_events enable row level security;
alter table public.user_preferences enable row level security;

-- Own memberships only. A policy that asked for co-members would have to read org_members from within its own policy.
create policy "members see their own memberships"
on public.org_members for select to authenticated
using (user_id = (select auth.uid())::text);

create policy "members see their organisations"
on public.organizations for select to authenticated
using (id in (select m.org_id from public.org_members as m where m.user_id = (select auth.uid())::text));

create policy "members see their organisation's quotas"
on public.quotas for select to authenticated
using (org_id in (select m.org_id from public.org_members as m where m.user_id = (select auth.uid())::text));

create policy "members see their organisation's usage"
on public.usage_events for select to authenticated
using (org_id in (select m.org_id from public.org_members as m where m.user_id = (select auth.uid())::text));

create policy "users see their own sessions"
on public.sessions for select to authenticated
using (user_id = (select auth.uid())::text);

create policy "signed-in users see prices"
on public.model_prices for select to authenticated
using (true);

create policy "users see their own preferences"
on public.user_preferences for select to authenticated
using (user_id = (select auth.uid())::text);

create policy "users create their own preferences"
on public.user_preferences for insert to authenticated
with check (user_id = (select auth.uid())::text);

create policy "users change their own preferences"
on public.user_preferences for update to authenticated
using (user_id = (select auth.uid())::text)
with check (user_id = (select auth.uid())::text);

create policy "users delete their own preferences"
on public.user_preferences for delete to authenticated
using (user_id = (select auth.uid())::text);

-- Privileges. A Supabase project grants everything on new tables of `public` to the API's roles, newer ones nothing: take
-- all of it away first, so that both end up the same. `anon` gets nothing at all.
revoke all on
public.organizations, public.org_members, public.quotas, public.sessions, public.model_prices, public.usage_events,
public.user_preferences
from public, anon, authenticated, service_role;

grant select on
public.organizations, public.org_members, public.quotas, public.sessions, public.model_prices, public.usage_events,
public.user_preferences
to authenticated;

grant insert, update, delete on public.user_preferences to authenticated;

grant select, insert, update, delete on
public.organizations, public.org_members, public.quotas, public.sessions, public.model_prices, public.usage_events,
public.user_preferences
to service_role;

-- Only its trigger calls it.
revoke all on function public.remove_what_belonged_to_organizations() from public, anon, authenticated, service_role;
