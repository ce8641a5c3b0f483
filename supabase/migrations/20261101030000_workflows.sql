-- A key type of one's own, from the table to the cached answer; docs/cache.md walks through it. What it takes is the table with
-- its policies as for any other, the one `watch` at the end, and one line in supabase/functions/_shared/key-types.ts.

create table public.workflows (
  id text primary key default gen_random_uuid()::text,
  org_id text not null default '',
  name text not null default '',
  -- What the workbench runs: steps, prompts, tools. Read on every run, written when somebody edits it.
  definition jsonb not null default '{}',
  updated_at timestamptz not null default now()
);

comment on table public.workflows is 'Workflow definitions of an organisation. Cached under workflow:{id}:definition for an hour.';

create index workflows_by_organization on public.workflows (org_id);

alter table public.workflows enable row level security;

create policy "members see their organisation's workflows"
on public.workflows for select to authenticated
using (org_id in (select m.org_id from public.org_members as m where m.user_id = (select auth.uid())::text));

revoke all on public.workflows from public, anon, authenticated, service_role;
grant select on public.workflows to authenticated;
grant select, insert, update, delete on public.workflows to service_role;

-- A write to a definition makes its cached answer unreadable; a renaming does not touch it.
select cache_invalidation.watch(
  'public.workflows', 'workflow:{id}:definition', columns => array['id', 'org_id', 'definition']
);
