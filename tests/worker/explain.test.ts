import { createClient } from 'redis';
import { describe, expect, it } from 'vitest';
import { runCommand } from './support/worker-process.ts';
import { useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

const command = (parameters: readonly string[], changes: Record<string, string> = {}) =>
  runCommand(stack.environment(changes), parameters);

describe('explain', () => {
  it('lists every key and group, counts the cached entries, and changes nothing', async () => {
    const client = createClient({ url: stack.redis.url });
    await client.connect();
    await client.mSet([
      ['quota:explained:openai:a', '{}'],
      ['quota:explained:openai:b', '{}'],
      ['session:explained:state', '{}'],
    ]);
    await client.close();
    await stack.sql.query(
      "insert into public.quotas (org_id, provider, model) values ('explained', 'openai', 'a')",
    );
    await stack.sql.query("insert into public.sessions (id) values ('explained')");
    const used = () => stack.sql.query("select used from public.quotas where org_id = 'explained'");
    const before = (await used()).rows;
    const quota = await command([
      'explain',
      "update quotas set used = 99 where org_id = 'explained'",
      '--json',
    ]);
    expect(quota.json()).toMatchObject({
      rows: 1,
      targets: [
        { target: 'quota:explained:*', kind: 'group', table: 'quotas', entries: 2, entriesComplete: true },
      ],
    });
    expect((await used()).rows).toEqual(before);
    const session = await command(['explain', "delete from sessions where id = 'explained'", '--json']);
    expect(session.json()).toMatchObject({
      targets: [{ target: 'session:explained:state', kind: 'key', entries: 1 }],
    });
    expect((await stack.sql.query("select from public.sessions where id = 'explained'")).rowCount).toBe(1);
    const nothing = await command(['explain', 'update quotas set used = 0 where false']);
    expect(nothing.text).toContain('It would invalidate nothing');
  });

  it('finds what is deferred to the commit: triggers that write, and constraints that fail', async () => {
    await stack.sql.query(`
      create table public.deferring (id int primary key, parent int references public.deferring deferrable initially deferred);
      create function public.deferred_write() returns trigger language plpgsql as $$
        begin update public.quotas set used = used + 1 where org_id = 'org-acme'; return null; end $$;
      create constraint trigger late after insert on public.deferring deferrable initially deferred
        for each row execute function public.deferred_write()`);
    try {
      const found = await command(['explain', 'insert into public.deferring values (1)', '--json']);
      expect(found.json()).toMatchObject({ targets: [{ target: 'quota:org-acme:*', kind: 'group' }] });
      const { code, errors } = await command(['explain', 'insert into public.deferring values (1, 2)']);
      expect(code).toBe(64);
      expect(errors).toContain('It would fail at its commit');
    } finally {
      await stack.sql.query('drop table public.deferring; drop function public.deferred_write()');
    }
  });

  it.each([
    '',
    ' ; ',
    '/* nothing */ -- at all',
    '; commit',
    '; copy (select 1) to stdout',
    'update quotas set used = 1; delete from quotas',
    'commit',
    '  /* x */ rollback',
    '/* x */ -- y\n  commit',
    "prepare transaction 'p'",
    'update nowhere set x = 1',
    'set local cache_invalidation.bell = on',
  ])('refuses %s', async (statement) => {
    const count = async () => (await stack.sql.query('select count(*)::int as n from public.quotas')).rows;
    const before = await count();
    const { code, errors } = await command(['explain', statement]);
    expect(code).toBe(64);
    expect(errors).toContain('This statement cannot be explained');
    expect(await count()).toEqual(before);
  });

  it('does not wait for a lock for long', async () => {
    const holder = await stack.sql.connect();
    await holder.query('begin');
    await holder.query("update public.quotas set used = used + 1 where org_id = 'org-acme'");
    const { code, errors } = await command(['explain', 'update quotas set used = 5']);
    await holder.query('rollback');
    holder.release();
    expect(code).toBe(69);
    expect(errors).toContain('lock timeout');
  });
});
