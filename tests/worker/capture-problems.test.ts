/**
 * Every way in which capture ends, or widens, on one real database, beside one worker: each is in `problems()`, in `doctor`, in /readyz (a
 * reason where writes are missed, else a warning), in the metric, and one line of the log.
 */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type CaptureProblem, describeProblem } from '../../worker/src/diagnostics/self-checks/capture.ts';
import type { Readiness } from '../../worker/src/http/readiness.ts';
import { MORE, SEEN, UNSEEN, watched } from './support/capture-ends.ts';
import { killAllWorkers, leading, runCommand, startWorkerProcess } from './support/worker-process.ts';
import { startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
let other: pg.Client;
beforeAll(async () => {
  stack = await startWorkerStack();
  other = new pg.Client({ connectionString: stack.databaseUrl });
  await other.connect();
});
afterEach((test) => killAllWorkers(test));
afterAll(async () => {
  await other?.end();
  await stack?.close();
});

/** For what has no line in the log. */
const WITHIN = { timeout: 20_000 };

const sql = (text: string) => stack.sql.query(text);

async function problems(): Promise<CaptureProblem[]> {
  return (
    await stack.sql.query(
      'select watch_id as watch, severity, problem, remedy from cache_invalidation.problems()',
    )
  ).rows;
}

it('every way in which capture ends is in problems(), doctor, /readyz, the metric and the log', async () => {
  const ways = [...SEEN, ...UNSEEN];
  for (const { declared } of ways) await sql(declared);
  await sql(watched('busy'));
  // Writes the functions of all, so it comes before what changes them.
  await sql('select cache_invalidation.pause()');
  for (const { done } of SEEN) if (done !== undefined) await sql(done);
  await other.query('begin; lock table cache_invalidation.watches in share row exclusive mode');
  await sql(`begin; set local lock_timeout = '1ms'; alter table public.busy rename code to codes; commit`);
  await other.query('rollback');
  await sql(`alter event trigger fencepost_ddl disable; alter event trigger fencepost_rewrite disable;
    drop event trigger fencepost_drop`);
  for (const { done } of UNSEEN) if (done !== undefined) await sql(done);
  // The worker applies it as any other; what it has not acknowledged stays.
  await sql(`insert into cache_invalidation.changes (xid, version, change) values ('90000000000', 1, 't')`);
  await other.query('begin; select from cache_invalidation.changes for update');

  const found = await problems();
  const lines = found.map(({ severity, problem }) => `${severity}: ${problem}`);
  const expected = [...ways.flatMap((way) => way.found), ...MORE];
  for (const [severity, problem] of expected)
    expect(lines).toContainEqual(expect.stringMatching(problem.source.replace('^', `^${severity}: `)));
  expect(found.filter(({ problem }) => !expected.some(([, pattern]) => pattern.test(problem)))).toEqual([]);
  const told = (isError: boolean) =>
    found.filter(({ severity }) => (severity === 'error') === isError).map(describeProblem);

  const worker = startWorkerProcess(stack.environment());
  await leading(worker);
  for (const problem of found) {
    const line = await worker.line(({ msg }) => msg === describeProblem(problem));
    expect(line).toMatchObject({
      level: { error: 'error', warning: 'warn', notice: 'info' }[problem.severity],
      severity: problem.severity,
    });
  }
  const answer = await fetch(`${await worker.url()}/readyz`);
  const { reasons, warnings } = (await answer.json()) as Readiness;
  expect(answer.status).toBe(503);
  expect(reasons).toEqual(expect.arrayContaining(told(true)));
  expect(warnings).toEqual(expect.arrayContaining(told(false)));
  const metrics = await (await fetch(`${await worker.url()}/metrics`)).text();
  for (const severity of ['error', 'warning', 'notice']) {
    const count = found.filter((problem) => problem.severity === severity).length;
    expect(metrics).toContain(`fencepost_capture_problems{severity="${severity}"} ${count}\n`);
  }
  const doctor = await runCommand(stack.environment(), ['doctor', '--json']);
  expect(doctor.code).toBe(1);
  const { findings } = doctor.json<{ findings: { verdict: string; detail: string; remedy?: string }[] }>();
  for (const { severity, problem, remedy } of found)
    expect(findings).toContainEqual(
      expect.objectContaining({ verdict: severity === 'notice' ? 'warn' : 'fail', detail: problem, remedy }),
    );
  for (const problem of found)
    expect(worker.lines.filter(({ msg }) => msg === describeProblem(problem))).toHaveLength(1);
});

it('an epoch that is missing, as in a copy of the schema alone, is made by a worker that begins to lead', async () => {
  await other.query('rollback');
  await sql('delete from cache_invalidation.epoch');
  expect((await problems()).map(({ problem }) => problem)).toContainEqual(
    expect.stringMatching(/^the epoch is missing/),
  );
  const worker = startWorkerProcess(stack.environment());
  await worker.line(({ msg }) => msg.startsWith('New epoch'));
  expect((await sql('select value from cache_invalidation.epoch')).rows).toHaveLength(1);
});

it('the first change of a declaration that widens is a line of the log, and only the first', async () => {
  await sql(`select cache_invalidation.create_event_triggers(), cache_invalidation.refresh();
    ${watched('narrowed')}; alter table public.narrowed drop column code`);
  const worker = startWorkerProcess(stack.environment());
  const writeAndDeliver = async () => {
    await sql('insert into public.narrowed values (1)');
    await expect
      .poll(async () => (await sql('select from cache_invalidation.changes')).rowCount, WITHIN)
      .toBe(0);
  };
  await writeAndDeliver();
  expect(await worker.line(({ sqlstate }) => sqlstate === '42804')).toMatchObject({
    level: 'warn',
    target: 'narrowed:*',
    msg: expect.stringContaining('select * from cache_invalidation.problems()'),
  });
  await writeAndDeliver();
  expect(worker.lines.filter(({ target, sqlstate }) => sqlstate && target === 'narrowed:*')).toHaveLength(1);
});
