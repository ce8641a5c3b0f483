/**
 * Who installs the queue's tables, with which rights, and what flows until they are there. The migrations are pushed by
 * Supabase's own program, as a role with the rights of hosted Supabase's `postgres`: not a superuser.
 */
import { readFileSync } from 'node:fs';
import { runMigrations } from 'bullmq';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { QUEUE_SCHEMA } from '../../worker/src/db/names.ts';
import { checkQueueTables } from '../../worker/src/diagnostics/doctor/queue-checks.ts';
import { readConfiguration } from '../../worker/src/lib/config.ts';
import { installQueue, queueSql } from '../../worker/src/queue/install.ts';
import { type HostedProject, startHostedProject, using } from './support/hosted-project.ts';
import {
  asleep,
  killAllWorkers,
  type LogLine,
  runCommand,
  startWorkerProcess,
} from './support/worker-process.ts';
import { fenceOf, startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

const MIGRATION = readFileSync(
  new URL('../../supabase/migrations/20261101020000_fencepost_queue.sql', import.meta.url),
  'utf8',
);

let project: HostedProject;
const as = (role: string): string => project.as(role);
let stack: WorkerStack;
beforeAll(async () => {
  project = await startHostedProject();
  stack = await startWorkerStack(as('hosted'));
});
afterEach(async (test) => {
  await killAllWorkers(test);
  // A killed worker's session finds out only when its statement has ended, and may hold tables of the queue until then.
  await using(project.database, (superuser) =>
    superuser.query(
      `select pg_terminate_backend(pid, 30000) from pg_stat_activity
        where application_name like 'fencepost%' and datname = current_database()`,
    ),
  );
  await using(as('hosted'), async (owner) => {
    await owner.query(`drop schema ${QUEUE_SCHEMA} cascade`);
    await owner.query(MIGRATION);
    await owner.query('delete from cache_invalidation.changes; delete from cache_invalidation.pending');
  });
});
afterAll(async () => {
  await stack?.close();
  await project?.stop();
});

async function column(sql: string): Promise<unknown[]> {
  const { rows } = await stack.sql.query<unknown[]>({ text: sql, rowMode: 'array' });
  return rows.map(([value]) => value);
}

const versions = () => column(`select version from ${QUEUE_SCHEMA}.migration order by version`);
const owners = () =>
  column(`
    select distinct relowner::regrole::text from pg_class where relnamespace = '${QUEUE_SCHEMA}'::regnamespace
    union select distinct proowner::regrole::text from pg_proc where pronamespace = '${QUEUE_SCHEMA}'::regnamespace`);
const rowsLeft = () =>
  column(
    `select ((select count(*) from cache_invalidation.outbox) + (select count(*) from cache_invalidation.pending))::int`,
  );
const complains = (line: LogLine) => line.code === 'QUEUE_UNAVAILABLE';

/** A fence that only a sweep deletes; the sweep is written to the outbox. */
async function requestSweep(name: string): Promise<string> {
  const fence = `fence:quota:${name}`;
  await stack.fences.arm([fence]);
  await stack.sql.query('select cache_invalidation.invalidate($1)', [`quota:${name}*:openai:*`]);
  return fence;
}

async function writesFlow(): Promise<void> {
  const organisations = await stack.organisations(3);
  await stack.write(organisations);
  await stack.fences.deleted(organisations.map(fenceOf));
}

describe('a worker', () => {
  it.each(['hosted', 'first_worker'])(
    'installs the tables as %s, without CREATE on the database',
    async (role) => {
      // Why one statement of the runner is left out.
      await using(as('first_worker'), async (client) => {
        await client.query('set role fencepost_worker');
        await expect(runMigrations(client, QUEUE_SCHEMA)).rejects.toMatchObject({ code: '42501' });
      });
      const worker = startWorkerProcess(stack.environment({ DATABASE_URL: as(role) }));
      await asleep(worker);
      await stack.fences.deleted([await requestSweep(`by-${role}`)]);
      expect(worker.lines.filter((line) => line.level === 'error')).toEqual([]);
      expect(await owners()).toEqual(['fencepost_worker']);
    },
  );

  it('gives the roles of the API no rights there', async () => {
    await installQueue(as('first_worker'));
    expect(
      await column(`
        select r.rolname from pg_roles as r
         where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator')
           and has_schema_privilege(r.oid, '${QUEUE_SCHEMA}', 'usage, create')`),
    ).toEqual([]);
    // And nobody gets them with the schema alone.
    expect(
      await column(`
        select p.oid::regprocedure::text from pg_proc as p
         where p.pronamespace = '${QUEUE_SCHEMA}'::regnamespace and has_function_privilege('anon', p.oid, 'execute')
        union all
        select c.oid::regclass::text from pg_class as c
         where c.relnamespace = '${QUEUE_SCHEMA}'::regnamespace and c.relkind = 'r'
           and has_table_privilege('anon', c.oid, 'select, insert, update, delete')`),
    ).toEqual([]);
  });

  it('upgrades what a worker with another login installed', async () => {
    const steps = (await queueSql()).split('do $fencepost_step$');
    const last = steps.pop() ?? '';
    const older = `${steps.join('do $fencepost_step$')}${last.slice(last.indexOf('end\n$fencepost_step$;') + 21)}`;
    await using(as('first_worker'), async (client) => {
      await client.query('set role fencepost_worker');
      await client.query(older);
    });
    const before = await versions();
    await installQueue(as('second_worker'));
    expect(await versions()).toEqual([...before, before.length + 1]);
  });

  it('finds the tables made by somebody else and creates nothing', async () => {
    await using(as('hosted'), async (owner) => {
      await owner.query(await queueSql());
      // As the migration of earlier copies left it.
      await owner.query(`
        revoke create on schema ${QUEUE_SCHEMA} from fencepost_worker;
        revoke insert, update, delete on ${QUEUE_SCHEMA}.migration from fencepost_worker`);
    });
    const worker = startWorkerProcess(stack.environment({ DATABASE_URL: as('first_worker') }));
    await asleep(worker);
    await stack.fences.deleted([await requestSweep('found')]);
    expect(worker.lines.filter((line) => line.level === 'error')).toEqual([]);
    expect(await owners()).toEqual(['hosted']);
  });

  it('that may not create them says so, delivers, and sweeps when the owner has run the script', async () => {
    await stack.sql.query(`revoke create on schema ${QUEUE_SCHEMA} from fencepost_worker`);
    const worker = startWorkerProcess(stack.environment({ DATABASE_URL: as('first_worker') }));
    await asleep(worker);
    const complaint = await worker.line(complains);
    expect(complaint.level).toBe('error');
    expect(JSON.stringify(complaint)).toContain('fencepost queue-sql');
    const fence = await requestSweep('waits');
    await writesFlow();
    await expect.poll(rowsLeft).toEqual([1]);
    await asleep(worker, worker.lines.length);
    expect(await column(`select to_regclass('${QUEUE_SCHEMA}.job')::text`)).toEqual([null]);
    const readiness = async () => await (await fetch(`${await worker.url()}/readyz`)).json();
    await expect.poll(readiness).toMatchObject({
      ready: true,
      // The check of capture has a warning of its own, as soon as it has run: this owner may not create event triggers.
      warnings: expect.arrayContaining([expect.stringContaining('1 target waits for it')]),
    });

    const script = startWorkerProcess({}, ['queue-sql']);
    expect(await script.exited).toBe(0);
    await using(as('hosted'), (owner) => owner.query(script.lines.map((line) => line.msg).join('\n')));
    await stack.fences.deleted([fence]);
    await expect.poll(rowsLeft).toEqual([0]);
  });

  it('killed in the middle leaves nothing, and the next one installs', async () => {
    await using(as('hosted'), async (other) => {
      // Whoever creates a table of this name now waits for this transaction.
      await other.query(`begin; create table ${QUEUE_SCHEMA}.job_log ()`);
      const first = startWorkerProcess(stack.environment({ DATABASE_URL: as('first_worker') }));
      // Only a superuser sees what other roles wait for.
      await using(project.server, (superuser) =>
        expect
          .poll(
            async () =>
              (
                await superuser.query(
                  "select from pg_stat_activity where application_name = 'fencepost:queue-install' and wait_event_type = 'Lock'",
                )
              ).rowCount,
          )
          .toBe(1),
      );
      await first.kill();
      await other.query('rollback');
    });
    expect(
      await column(`select relname from pg_class where relnamespace = '${QUEUE_SCHEMA}'::regnamespace`),
    ).toEqual([]);
    const next = startWorkerProcess(stack.environment({ DATABASE_URL: as('second_worker') }));
    await stack.fences.deleted([await requestSweep('next')]);
    expect(next.lines.filter(complains)).toEqual([]);
  });
});

it('doctor says who will install them, and names the script where the worker may not', async () => {
  const pool = new pg.Pool({ connectionString: as('first_worker'), max: 1 });
  const findings = () => checkQueueTables(pool, readConfiguration(stack.environment()));
  try {
    expect(await findings()).toMatchObject([
      { verdict: 'ok', detail: expect.stringContaining('the leading worker installs') },
    ]);
    await stack.sql.query(`revoke create on schema ${QUEUE_SCHEMA} from fencepost_worker`);
    expect(await findings()).toMatchObject([
      { verdict: 'fail', remedy: expect.stringContaining('fencepost queue-sql') },
    ]);
    await stack.sql.query(await queueSql());
    expect(await findings()).toMatchObject([{ verdict: 'ok', detail: 'in the database' }]);
  } finally {
    await pool.end();
  }
});

it('doctor and status say that the worker may not install what is missing or too old', async () => {
  const pool = new pg.Pool({ connectionString: as('set_false'), max: 1 });
  const verdicts = async () =>
    (await checkQueueTables(pool, readConfiguration(stack.environment()))).map(
      ({ verdict, detail }) => `${verdict} ${detail}`,
    );
  const problems = async () =>
    (await runCommand(stack.environment({ DATABASE_URL: as('set_false') }), ['status', '--json'])).json<{
      problems: string[];
    }>().problems;
  try {
    // A member that may not "set role", which Postgres 16 and later can tell apart.
    await using(project.server, (superuser) =>
      superuser.query(
        "create role set_false login password 'p'; grant fencepost_worker to set_false with set false",
      ),
    );
    await expect(installQueue(as('set_false'))).rejects.toMatchObject({ code: 'QUEUE_UNAVAILABLE' });
    expect(await verdicts()).toEqual([
      'fail its tables are not installed, and role set_false may not install them',
    ]);
    expect(await problems()).toEqual([expect.stringContaining('may not install them. As the owner: npx')]);

    await installQueue(as('first_worker'));
    expect(await verdicts()).toEqual(['ok in the database']);
    const outdate = `delete from ${QUEUE_SCHEMA}.migration where version = (select max(version) from ${QUEUE_SCHEMA}.migration)`;
    await using(project.database, (superuser) => superuser.query(outdate));
    expect(await verdicts()).toEqual([
      'fail its tables are older than this worker, and role set_false may not upgrade them',
    ]);
    expect(await problems()).toEqual([expect.stringContaining('older than this worker')]);

    await using(project.server, (superuser) =>
      superuser.query('grant fencepost_worker to set_false with set true'),
    );
    expect(await verdicts()).toEqual([
      'ok in the database; the leading worker upgrades its tables when it starts',
    ]);
    expect(await problems()).toEqual([]);
    // Only the owner of a table may change it.
    await using(project.database, (superuser) =>
      superuser.query(
        `alter table ${QUEUE_SCHEMA}.job owner to hosted; grant all on ${QUEUE_SCHEMA}.job to fencepost_worker`,
      ),
    );
    expect(await verdicts()).toEqual([expect.stringMatching(/^fail .* may not upgrade them$/)]);
  } finally {
    await pool.end();
  }
});

it('two at once install once', async () => {
  await Promise.all([
    installQueue(as('first_worker')),
    installQueue(as('second_worker')),
    installQueue(as('hosted')),
  ]);
  expect(await versions()).toEqual(Array.from((await versions()).keys(), (index) => index + 1));
  expect(await owners()).toEqual(['fencepost_worker']);
});

it('the script makes what the runner makes, and may be run again', async () => {
  const made = () =>
    column(`
      select c.oid::regclass::text || a.attname || a.atttypid::regtype || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
        from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0
        left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
       where c.relnamespace = '${QUEUE_SCHEMA}'::regnamespace
      union all
      select pg_get_functiondef(p.oid) from pg_proc as p where p.pronamespace = '${QUEUE_SCHEMA}'::regnamespace
      union all
      select format('%s %s', version, name) from ${QUEUE_SCHEMA}.migration
      order by 1`);
  await installQueue(as('first_worker'));
  const byRunner = await made();
  await stack.sql.query(`drop schema ${QUEUE_SCHEMA} cascade`);
  await stack.sql.query(MIGRATION);
  await stack.sql.query(await queueSql());
  expect(await made()).toEqual(byRunner);
  expect(byRunner.length).toBeGreaterThan(100);
  await stack.sql.query(await queueSql());
  expect(await made()).toEqual(byRunner);
});
