import pg from 'pg';
import { expect, it } from 'vitest';
import { asleep, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

it('a worker’s claims abort no transaction of an application that is serializable by default', async () => {
  const database = new URL(stack.databaseUrl).pathname.slice(1);
  await stack.sql.query(`alter database ${database} set default_transaction_isolation = 'serializable';
    create table public.balances (id integer primary key, amount integer); insert into public.balances values (1, 0)`);
  const [first = '', second = ''] = await stack.organisations(2);
  await asleep(startWorkerProcess(stack.environment()));
  const application = new pg.Client({ connectionString: stack.databaseUrl });
  await application.connect();
  try {
    await application.query('begin');
    expect((await application.query('show transaction_isolation')).rows).toEqual([
      { transaction_isolation: 'serializable' },
    ]);
    await application.query('select amount from public.balances where id = 1');
    // Another transaction changes the row that was read and a watched row, so that the worker claims in between.
    const other = new pg.Client({ connectionString: stack.databaseUrl });
    await other.connect();
    await other.query(`begin; update public.balances set amount = 1 where id = 1;
      update public.quotas set used = used + 1 where org_id = '${first}'; commit`);
    await other.end();
    await stack.fences.deleted([fenceOf(first)]);
    await application.query('update public.quotas set used = used + 1 where org_id = $1', [second]);
    await application.query('commit');
    await stack.fences.deleted([fenceOf(second)]);
  } finally {
    await application.end();
    await stack.sql.query(`alter database ${database} reset default_transaction_isolation`);
  }
});
