/**
 * `fencepost warm` against the real readers: what it asks is in the cache afterwards, exactly as the rows say. A small server
 * stands in only where the readers cannot show what is looked at: what came over the wire, and failures at will.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import getPort from 'get-port';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Warmed } from '../../worker/src/commands/warm.ts';
import { type FunctionStack, startFunctionStack } from '../functions/setup/stack.ts';
import { cloneDatabase } from '../setup/database.ts';
import { killAllWorkers, startWorkerProcess } from './rig/worker-process.ts';

vi.setConfig({ testTimeout: 120_000 });

let stack: FunctionStack;
const servers: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  stack = await startFunctionStack();
});
afterEach(async (test) => {
  await killAllWorkers(test);
  for (const end of servers.splice(0)) await end();
});
afterAll(() => stack?.stop());

/** With the owner's connection, and without anything of Upstash. */
async function warm(parameters: readonly string[], changes: Record<string, string> = {}) {
  const environment = {
    DATABASE_URL: stack.databaseUrl,
    FENCEPOST_WARM_TOKEN: stack.tokens.service ?? '',
    ...changes,
  };
  const process = startWorkerProcess(environment, ['warm', ...parameters]);
  const code = await process.exited;
  const text = process.lines.map((line) => line.msg).join('\n');
  const errors = process.stderr();
  expect(text + errors).not.toContain(stack.tokens.service);
  return { code, text, errors, json: () => JSON.parse(text) as Warmed };
}

const costs = () =>
  `${stack.functions.url}/cost-estimate?provider={provider}&model={model}&input_tokens=0&output_tokens=0`;

/** Requests that came to a server of the test's own, which answers them as told. */
async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  servers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const numbers = (count: number) => `select n from generate_series(1, ${count}) as n`;

describe('the real readers', () => {
  it('load everything once; then it is all there, for other callers too', async () => {
    const [{ count } = {}] = await stack.sql('select count(*)::int from public.model_prices');
    const first = await warm([costs(), '--table', 'public.model_prices', '--json']);
    expect(first.errors).toBe('');
    expect(first.code).toBe(0);
    expect(first.json()).toMatchObject({
      addresses: count,
      asked: count,
      answered: count,
      xCache: { MISS: count, HIT: 0, STALE: 0, other: 0 },
      absent: 0,
      failed: {},
      skipped: 0,
      notes: [],
    });
    const second = await warm([costs(), '--table', 'public.model_prices', '--json']);
    expect(second.json()).toMatchObject({ xCache: { MISS: 0, HIT: count } });
    const reader = await stack.call(
      'cost-estimate',
      { provider: 'openai', model: 'gpt-5-mini', input_tokens: 7, output_tokens: 1 },
      { as: 'member' },
    );
    expect([reader.status, reader.headers.get('x-cache')]).toEqual([200, 'HIT']);
    const people = await warm([costs(), '--table', 'public.model_prices']);
    expect(people.text).toMatch(
      /^Asking \d+ addresses, 4 at a time: http.*model=\{model\}&input_tokens=…&output_tokens=…$/m,
    );
    expect(people.text).toMatch(/^asked +\d+ +in [\d.]+ m?s$/m);
    expect(people.text).toMatch(new RegExp(`^cached +${count} +already \\(HIT\\)$`, 'm'));
  });

  it('get values as the rows hold them, however hostile', async () => {
    const hostile = [
      'a&model=b',
      'a?b#c',
      'x/../y',
      '..',
      'a:b*~',
      '100% +1',
      '%2e%2e',
      'größe 模型 🦔',
      `'";--`,
      '{model}',
    ];
    await stack.sql(
      `insert into public.model_prices (provider, model, input_per_mtok, output_per_mtok)
       select 'hostile&co', m, 1, 1 from unnest($1::text[]) as m`,
      [hostile],
    );
    await stack.settled();
    const rows = `select provider, model from public.model_prices where provider = 'hostile&co' -- all of them`;
    const warmed = (await warm([costs(), '--rows', `${rows}\n ; `, '--json'])).json();
    expect(warmed).toMatchObject({ answered: hostile.length, absent: 0, xCache: { MISS: hostile.length } });
    for (const model of hostile) {
      const asked = { provider: 'hostile&co', model, input_tokens: 1_000_000, output_tokens: 0 };
      const reader = await stack.call('cost-estimate', asked, { as: 'stranger' });
      expect([model, reader.headers.get('x-cache'), reader.body]).toMatchObject([model, 'HIT', { model }]);
    }
  });

  it('tell absence, which is cached too, from what is asked wrongly', async () => {
    const rows = `values ('openai', 'gpt-5-mini'), ('openai', 'of nobody'), ('openai', ''), ('openai', E'a\\nb'), (null, 'x')`;
    const select = `select * from (${rows}) as v (provider, model)`;
    const { code, errors, json } = await warm([costs(), '--rows', select, '--json']);
    expect(code).toBe(1);
    expect(json()).toMatchObject({
      asked: 4,
      answered: 2,
      absent: 1,
      failed: { 'HTTP 400': 2 },
      skipped: 1,
    });
    expect(
      json()
        .examples.map(({ url }) => url.slice(url.indexOf('?')))
        .sort(),
    ).toEqual([
      '?provider=openai&model=&input_tokens=…&output_tokens=…',
      '?provider=openai&model=a%0Ab&input_tokens=…&output_tokens=…',
    ]);
    expect(errors).toMatch(/^fencepost: 2 of 4 requests failed\./);
    const absent = await stack.call(
      'cost-estimate',
      { provider: 'openai', model: 'of nobody', input_tokens: 0, output_tokens: 0 },
      { as: 'member' },
    );
    expect([absent.status, absent.headers.get('x-cache')]).toEqual([404, 'HIT']);
  });

  it.each([
    ['no token', '', /set FENCEPOST_WARM_TOKEN to a secret key/],
    ['another token', 'eyJhbGciOiJIUzI1NiJ9.e30.forged', /refuse the caller of FENCEPOST_WARM_TOKEN/],
    ['a key of another project', 'sb_secret_of_others', /refuse the caller of FENCEPOST_WARM_TOKEN/],
  ])('refuse %s: it stops', async (_, token, remedy) => {
    const { code, text, errors } = await warm([costs(), '--table', 'public.model_prices', '--json'], {
      FENCEPOST_WARM_TOKEN: token,
    });
    expect(code).toBe(77);
    expect(errors).toMatch(/^fencepost: Stopped after 10 requests, .* \(HTTP 401\)\./);
    expect(errors).toMatch(remedy);
    expect(JSON.parse(text)).toMatchObject({ asked: 10, failed: { 'HTTP 401': 10 } });
    if (token !== '') expect(text + errors).not.toContain(token);
  });

  it('are asked once where there is no placeholder, without a database', async () => {
    const { code, text } = await warm([`${stack.functions.url}/health-check`], { DATABASE_URL: '' });
    expect(code).toBe(0);
    expect(text).toMatch(/^unmarked +1 /m);
    expect(text).toContain('whether this address is read through the cache is not known');
    const wrong = await warm([`${stack.functions.url}/health-chekc`], { DATABASE_URL: '' });
    expect(wrong).toMatchObject({ code: 1 });
    expect(wrong.errors).toContain('Nothing is served at this path');
  });
});

describe('requests', () => {
  it('carry each value, and the token in its header', async () => {
    const seen: [string, string | undefined, string | undefined][] = [];
    const url = await serve((request, response) => {
      const { searchParams } = new URL(request.url ?? '/', 'http://h');
      const { authorization, apikey } = request.headers as Record<string, string>;
      seen.push([searchParams.get('v') ?? '', authorization, apikey]);
      response.setHeader('x-cache', 'MISS').end();
    });
    const rows = `select * from (values (E'a\\n\\r\\tb'), ('&?#/:')) as v (v)`;
    expect(await warm([`${url}/?v={v}`, '--rows', rows, '--concurrency', '1'])).toMatchObject({ code: 0 });
    const bearer = `Bearer ${stack.tokens.service}`;
    expect(seen.splice(0)).toEqual([
      ['a\n\r\tb', bearer, undefined],
      ['&?#/:', bearer, undefined],
    ]);
    await warm([url], { FENCEPOST_WARM_TOKEN: 'sb_secret_of_the_tests' });
    await warm([url], { FENCEPOST_WARM_TOKEN: '' });
    expect(seen).toEqual([
      ['', undefined, 'sb_secret_of_the_tests'],
      ['', undefined, undefined],
    ]);
  });

  it('write a value as text in UTC whatever the role prefers, and ask each address once', async () => {
    const seen = new Set<string>();
    const url = await serve((request, response) => {
      seen.add(decodeURIComponent(request.url ?? ''));
      response.setHeader('x-cache', 'HIT').end();
    });
    const database = new URL(stack.databaseUrl);
    database.searchParams.set('options', '-c datestyle=german,dmy -c timezone=Asia/Tokyo');
    const rows = `select d, b, 1 as n from (values (timestamptz '2026-11-23 23:30-05', true), ('2026-11-24 04:30+00', true)) v (d, b)`;
    const warmed = await warm([`${url}/{d}/{b}/{n}`, '--rows', rows, '--json'], {
      DATABASE_URL: database.href,
    });
    expect(warmed.json()).toMatchObject({ addresses: 1, asked: 1 });
    expect([...seen]).toEqual(['/2026-11-24 04:30:00+00/true/1']);
  });

  it('are never more at a time than asked for', async () => {
    const open: ServerResponse[] = [];
    let most = 0;
    const url = await serve(async (_, response) => {
      open.push(response);
      most = Math.max(most, open.length);
      // Answers only when as many are open as there may be: fewer would wait for ever. One more would come meanwhile.
      if (open.length !== 3) return;
      for (let look = 0; look < 20; look++) await stack.sql('select');
      for (const one of open.splice(0)) one.setHeader('x-cache', 'MISS').end('x'.repeat(100_000));
    });
    const warmed = await warm([`${url}/?n={n}`, '--rows', numbers(30), '--concurrency', '3', '--json']);
    expect(warmed.json()).toMatchObject({ answered: 30 });
    expect(most).toBe(3);
  });

  it('are repeated when told to, three times at most', async () => {
    const seen: string[] = [];
    const url = await serve((request, response) => {
      const path = request.url ?? '';
      seen.push(path);
      const again = path === '/never' || (path === '/later' && seen.filter((one) => one === path).length < 3);
      // A pause that is too long is not waited for.
      response.setHeader('retry-after', path === '/tomorrow' ? '86400' : '0').setHeader('x-cache', 'MISS');
      response.writeHead(again || path === '/tomorrow' ? 429 : 200).end();
    });
    const rows = "select * from unnest(array['never', 'later', 'tomorrow', 'now']) as p (p)";
    const warmed = await warm([`${url}/{p}`, '--rows', rows, '--concurrency', '1', '--json']);
    expect(warmed.code).toBe(1);
    expect(warmed.json()).toMatchObject({ answered: 2, failed: { 'HTTP 429': 2 } });
    expect(seen).toEqual(['/never', '/never', '/never', '/later', '/later', '/later', '/tomorrow', '/now']);
  });

  it('tell a mixture of failures, go on, and follow nobody elsewhere', async () => {
    let elsewhere = 0;
    const other = await serve((_, response) => {
      elsewhere += 1;
      response.end();
    });
    const url = await serve((request, response) => {
      const n = Number(request.url?.slice(1));
      response.setHeader('x-cache', 'MISS');
      if (n % 5 === 0) response.writeHead(500).end('secret body');
      else if (n % 5 === 1) response.writeHead(302, { location: other }).end();
      // Headers at once, a body never: the limit holds for both.
      else if (n === 2) response.write('never ends');
      else response.end();
    });
    const { code, text, errors } = await warm([
      `${url}/{n}`,
      '--rows',
      numbers(40),
      '--timeout-seconds',
      '1',
    ]);
    expect(code).toBe(1);
    expect(text).toMatch(/^failed +8 +HTTP 500$/m);
    expect(text).toMatch(/^failed +8 +HTTP 302$/m);
    expect(text).toMatch(/^failed +1 +timeout$/m);
    expect(text).toMatch(/^loaded +23 /m);
    expect(text).not.toContain('secret body');
    expect(errors).toMatch(/^fencepost: 17 of 40 requests failed/);
    expect(elsewhere).toBe(0);
  });

  it('end early when nobody is there, and when they all end alike', async () => {
    const nobody = `http://127.0.0.1:${await getPort()}`;
    const away = await warm([`${nobody}/{n}?key=hunter2`, '--rows', numbers(10_000), '--json']);
    expect(away.code).toBe(69);
    expect(away.errors).toContain(
      `Stopped after 10 requests, the last 10 of which failed alike (ECONNREFUSED). Nobody answers at ${nobody}`,
    );
    expect(away.text + away.errors).not.toContain('hunter2');
    let count = 0;
    const url = await serve((_, response) => {
      count += 1;
      response.writeHead(400).end();
    });
    expect(await warm([`${url}/{n}`, '--rows', numbers(10_000)])).toMatchObject({ code: 1 });
    expect(count).toBeLessThan(20);
  });
});

describe('rows', () => {
  it('are read up to the limit, which is said', async () => {
    const url = await serve((_, response) => void response.setHeader('x-cache', 'HIT').end());
    const warmed = (await warm([`${url}/{n}`, '--rows', numbers(5), '--limit', '4', '--json'])).json();
    expect(warmed).toMatchObject({ asked: 4, notes: [expect.stringContaining('first 4 rows')] });
    const all = (await warm([`${url}/{n}`, '--rows', numbers(4), '--limit', '4', '--json'])).json();
    expect(all).toMatchObject({ asked: 4, notes: [] });
    const none = await warm([`${url}/{n}`, '--rows', numbers(0)]);
    expect(none).toMatchObject({ code: 0, text: expect.stringContaining('There is no row') });
  });

  it('are let go before the first question', async () => {
    const open: unknown[] = [];
    const url = await serve(async (_, response) => {
      open.push(
        ...(await stack.sql(
          "select state from pg_stat_activity where application_name = 'fencepost:warm' and datname = current_database()",
        )),
      );
      response.setHeader('x-cache', 'HIT').end();
    });
    expect(await warm([`${url}/{n}`, '--rows', numbers(3)])).toMatchObject({ code: 0 });
    expect(open).toEqual([]);
  });

  it.each([
    [
      'an unknown column',
      ['--table', 'public.model_prices'],
      64,
      /column "nowhere" does not exist. Each placeholder is a column/,
    ],
    [
      'an unknown column of a query',
      ['--rows', 'select 1 as n'],
      64,
      /column rows.nowhere does not exist. Each placeholder/,
    ],
    [
      'an unknown table',
      ['--table', 'public.nothing'],
      64,
      /relation "public.nothing" does not exist. Name the table/,
    ],
    ['an unknown schema', ['--table', 'elsewhere.t'], 64, /schema "elsewhere" does not exist/],
    ['nonsense', ['--rows', 'selec 1'], 64, /syntax error at or near .* --rows is one SELECT/],
    ['two statements', ['--rows', 'select 1) as x; commit; select (1'], 64, /multiple commands/],
    ['a write', ['--rows', 'delete from public.quotas returning org_id as nowhere'], 64, /syntax error/],
    [
      'a write in a function',
      ['--rows', "select public.record_usage('org-acme', 'openai', 'gpt-5-mini', 1)::text as nowhere"],
      64,
      /read-only transaction. --rows is a SELECT that writes nothing/,
    ],
    ['bad data', ['--rows', 'select 1 / 0 as nowhere'], 64, /division by zero/],
    ['neither', [], 64, /Say where the values of {nowhere} come from/],
    ['both', ['--table', 'public.quotas', '--rows', 'select 1'], 64, /either --table .* or --rows/],
    ['a limit of 0', ['--table', 'public.quotas', '--limit', '0'], 64, /whole number from 1 to 100000/],
  ])('refuses %s', async (_, parameters, expected, message) => {
    const { code, errors, text } = await warm(['http://127.0.0.1:9/{nowhere}', ...parameters]);
    expect(errors).toMatch(message);
    expect([code, text]).toEqual([expected, '']);
  });

  it('refuses rows for an address without a place for them, and an address that is none', async () => {
    const aimless = await warm(['http://127.0.0.1:9/', '--table', 'public.quotas']);
    expect(aimless).toMatchObject({ code: 64, errors: expect.stringContaining('no {column}') });
    const none = await warm(['{nowhere}', '--table', 'public.quotas']);
    expect(none).toMatchObject({ code: 64, errors: expect.stringContaining('must begin with http') });
  });

  it('refuses a table that the role may not read, as the worker’s own', async () => {
    await stack.sql("create role warm_worker login password 'w' in role fencepost_worker");
    const url = new URL(stack.databaseUrl);
    url.username = 'warm_worker';
    url.password = 'w';
    try {
      const { code, errors } = await warm([costs(), '--table', 'public.model_prices'], {
        DATABASE_URL: url.href,
      });
      expect(code).toBe(77);
      expect(errors).toMatch(
        /permission denied for table model_prices. The worker’s own role reads no tables/,
      );
    } finally {
      await stack.sql('drop role warm_worker');
    }
  });
});

describe('what is stored counts for nothing', () => {
  it('without a worker, which is said', async () => {
    const url = await serve((_, response) => void response.setHeader('x-cache', 'MISS').end());
    const database = await cloneDatabase();
    try {
      const { code, text } = await warm([`${url}/{n}`, '--rows', numbers(1)], { DATABASE_URL: database.url });
      expect(code).toBe(0);
      expect(text).toMatch(/^note +No worker leads this database\./m);
    } finally {
      await database.drop();
    }
  });

  // The last one: the readers' Redis is gone after it.
  it('where the readers go without their cache, which is a failure', async () => {
    await stack.gateway.stop();
    const { code, text, errors } = await warm([
      costs(),
      '--rows',
      `select 'openai' as provider, 'gpt-5-mini' as model`,
    ]);
    expect(code).toBe(69);
    expect(text).toMatch(/^failed +1 +x-cache: BYPASS$/m);
    expect(errors).toContain('The functions go without their cache: health-check says why.');
  });
});
