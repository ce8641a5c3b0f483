import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { asleep, killAllWorkers, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, type Rig, startRig } from './support/worker-stack.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterEach((test) => killAllWorkers(test));
afterAll(async () => {
  await rig.close();
});

it('a worker’s claims abort no transaction of an application that is serializable by default', async () => {
  const database = new URL(rig.databaseUrl).pathname.slice(1);
  await rig.sql.query(`alter database ${database} set default_transaction_isolation = 'serializable';
    create table public.balances (id integer primary key, amount integer); insert into public.balances values (1, 0)`);
  const [first = '', second = ''] = await rig.organisations(2);
  await asleep(startWorkerProcess(rig.environment()));
  const application = new pg.Client({ connectionString: rig.databaseUrl });
  await application.connect();
  try {
    await application.query('begin');
    expect((await application.query('show transaction_isolation')).rows).toEqual([
      { transaction_isolation: 'serializable' },
    ]);
    await application.query('select amount from public.balances where id = 1');
    // Another transaction changes what was read, and a watched row, so that the worker claims in between.
    const other = new pg.Client({ connectionString: rig.databaseUrl });
    await other.connect();
    await other.query(`begin; update public.balances set amount = 1 where id = 1;
      update public.quotas set used = used + 1 where org_id = '${first}'; commit`);
    await other.end();
    await rig.fences.deleted([fenceOf(first)]);
    await application.query('update public.quotas set used = used + 1 where org_id = $1', [second]);
    await application.query('commit');
    await rig.fences.deleted([fenceOf(second)]);
  } finally {
    await application.end();
    await rig.sql.query(`alter database ${database} reset default_transaction_isolation`);
  }
});
