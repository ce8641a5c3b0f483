/** `doctor` against set-ups that are broken in one place: it must say ok to none of them. */
import pg from 'pg';
import { createClient } from 'redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { checkPrivileges } from '../../worker/src/diagnostics/doctor/database-checks.ts';
import { runCommand } from './support/worker-process.ts';
import { useWorkerStack } from './support/worker-stack.ts';

interface Finding {
  readonly name: string;
  readonly verdict: string;
  readonly detail: string;
  readonly remedy?: string;
}

const stack = useWorkerStack();

/** What it says of one thing. */
async function doctor(name: string, changes: Record<string, string> = {}): Promise<Finding[]> {
  const { errors, json } = await runCommand(stack.environment(changes), ['doctor', '--json']);
  expect(errors).toBe('');
  return json<{ findings: Finding[] }>().findings.filter((finding) => finding.name === name);
}

describe('a role with the least rights', () => {
  let asLeast: Record<string, string>;
  beforeAll(async () => {
    await stack.sql.query("create role least login password 'l'");
    await stack.sql.query('grant fencepost_worker to least');
    const url = new URL(stack.databaseUrl);
    url.username = 'least';
    url.password = 'l';
    asLeast = { DATABASE_URL: url.href };
  });
  afterAll(async () => {
    await stack.sql.query('drop role least');
  });

  it('suffices', async () => {
    expect(await doctor('privileges', asLeast)).toMatchObject([{ verdict: 'ok' }]);
    expect(await doctor('queue', asLeast)).toMatchObject([{ verdict: 'ok' }]);
  });

  it('that lacks any one right of the worker', async () => {
    const { rows } = await stack.sql.query<{ what: string; right: string }>(
      `select 'function ' || p.oid::regprocedure::text as what, 'execute on function ' || p.oid::regprocedure::text as right
         from pg_proc as p
        where p.pronamespace = 'cache_invalidation'::regnamespace and p.prorettype <> 'trigger'::regtype
          and has_function_privilege('fencepost_worker', p.oid, 'execute')
       union all
       select right_name || ' on ' || c.relname, right_name || ' on ' || c.oid::regclass::text
         from pg_class as c, unnest(array['select', 'insert', 'update', 'delete']) as right_name
        where c.relnamespace = 'cache_invalidation'::regnamespace and c.relkind in ('r', 'p', 'v')
          and has_table_privilege('fencepost_worker', c.oid, right_name)`,
    );
    expect(rows.length).toBeGreaterThan(20);
    const pool = new pg.Pool({ connectionString: asLeast.DATABASE_URL, max: 1 });
    try {
      for (const { what, right } of rows) {
        await stack.sql.query(`revoke ${right} from fencepost_worker`);
        const { verdict, detail } = await checkPrivileges(pool);
        await stack.sql.query(`grant ${right} to fencepost_worker`);
        expect({ verdict, detail }).toEqual({ verdict: 'fail', detail: `role least lacks: ${what}` });
      }
      expect(await checkPrivileges(pool)).toMatchObject({ verdict: 'ok' });
    } finally {
      await pool.end();
    }
  });

  it('that lacks those to the queue’s tables', async () => {
    const change = (what: string) =>
      stack.sql.query(
        `${what} on cache_invalidation_queue.job ${what === 'revoke insert' ? 'from' : 'to'} fencepost_worker`,
      );
    await change('revoke insert');
    try {
      expect(await doctor('queue', asLeast)).toMatchObject([
        {
          verdict: 'fail',
          detail: expect.stringContaining('insert on job'),
          remedy: expect.stringContaining('grant'),
        },
      ]);
    } finally {
      await change('grant insert');
    }
  });

  it('cannot see since when others pin rows, and says so; how much they hold back it sees', async () => {
    const holder = new pg.Client(stack.databaseUrl);
    await holder.connect();
    try {
      await holder.query('begin isolation level repeatable read');
      await holder.query('select 1');
      expect(await doctor('old snapshots', asLeast)).toMatchObject([
        {
          verdict: 'ok',
          detail: expect.stringMatching(/role least cannot see of \d+ \(grant pg_read_all_stats to least/),
        },
      ]);
      await stack.sql.query('create table public.consumed (n int)');
      // A subtransaction that writes takes a number of its own.
      await stack.sql.query(
        `do $$ begin for n in 1..100001 loop begin insert into public.consumed values (n); exception when others then null; end; end loop; end $$`,
      );
      const { rows } = await holder.query<{ pid: number }>('select pg_backend_pid() as pid');
      const detail = new RegExp(`process ${rows[0]?.pid} of postgres, for \\d{6,} transactions`);
      // Others on the server may hold rows back as well.
      expect(await doctor('old snapshots', asLeast)).toContainEqual(
        expect.objectContaining({ verdict: 'warn', detail: expect.stringMatching(detail) }),
      );
    } finally {
      await holder.end();
      await stack.sql.query('drop table if exists public.consumed');
    }
  });
});

it('a queue in a Redis that nobody answers for', async () => {
  expect(await doctor('queue', { QUEUE_REDIS_URL: 'redis://127.0.0.1:1' })).toMatchObject([
    { verdict: 'fail', remedy: expect.stringContaining('QUEUE_REDIS_URL') },
  ]);
  expect(await doctor('queue', { QUEUE_REDIS_URL: stack.redis.url })).toMatchObject([{ verdict: 'ok' }]);
});

describe('a token', () => {
  let client: ReturnType<typeof createClient>;
  beforeEach(async () => {
    client = createClient({ url: stack.redis.url });
    await client.connect();
  });
  afterEach(async () => {
    await client.sendCommand(['ACL', 'SETUSER', 'default', '+@all', '~*']);
    await client.close();
  });

  it('that may do everything', async () => {
    expect(await doctor('redis rights')).toMatchObject([{ verdict: 'ok' }]);
  });

  it.each([
    [['-set', '-getex'], /may not SET, MULTI, GETEX/],
    [['-mget'], /may not MGET/],
    [['-scan'], /may not SCAN/],
    [['resetkeys', '~quota:*'], /may not DEL, SET/],
  ])('that may not %j', async (rules, detail) => {
    await client.sendCommand(['ACL', 'SETUSER', 'default', ...rules]);
    expect(await doctor('redis rights')).toMatchObject([
      { verdict: 'fail', detail: expect.stringMatching(detail), remedy: expect.stringContaining('token') },
    ]);
  });
});
