/** The requests that `fencepost warm` sends, how it takes failures, and where its rows come from. */
import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { costs, numbers, serve, stack, useReaders, warm } from './support/warming.ts';

useReaders();

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

  it('that wait for another attempt are let go when it stops, however many', async () => {
    const url = await serve((request, response) => {
      const isBusy = Number(request.url?.slice(1)) <= 20;
      response.writeHead(isBusy ? 503 : 401, { 'retry-after': '30' }).end();
    });
    const startedAt = Date.now();
    const { code, errors } = await warm([`${url}/{n}`, '--rows', numbers(40), '--concurrency', '25']);
    expect(errors).toMatch(/^fencepost: Stopped: 10 of 10 requests failed \(HTTP 401\)\..*\n$/);
    expect(code).toBe(77);
    expect(Date.now() - startedAt).toBeLessThan(25_000);
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
      '5',
    ]);
    expect(code).toBe(1);
    expect(text).toMatch(/^failed +8 +HTTP 500$/m);
    expect(text).toMatch(/^failed +8 +HTTP 302$/m);
    expect(text).toMatch(/^failed +1 +timeout$/m);
    expect(text).toMatch(/^loaded +23 /m);
    expect(text).not.toContain('secret body');
    expect(errors).toMatch(/^fencepost: 17 of 40 requests failed \((?:HTTP 500|HTTP 302|timeout|, ){5}\)/);
    expect(elsewhere).toBe(0);
  });

  it('that say nothing of a cache are not taken for cached because others failed', async () => {
    const url = await serve((request, response) => {
      response.writeHead(request.url === '/2' ? 500 : 200).end();
    });
    const { code, text, errors } = await warm([`${url}/{n}`, '--rows', numbers(3)]);
    expect(code).toBe(1);
    expect(text).toMatch(/^unmarked +2 /m);
    expect(text).toContain('No answer says x-cache');
    expect(errors).not.toContain('cached');
  });

  it('with a broken answer fail with its code', async () => {
    const url = await serve((request, response) => {
      if (request.url === '/garbled') response.setHeader('content-encoding', 'gzip').end('no gzip');
      else if (request.url === '/no-http') response.socket?.end('nonsense\r\n\r\n');
      // Cut in the middle of its body.
      else response.setHeader('content-length', '9').write('half', () => response.destroy());
    });
    const tls = url.replace('http:', 'https:');
    for (const [address, reason] of [
      [`${url}/garbled`, /\(Z_DATA_ERROR\)\. .* correct the address/],
      [`${url}/no-http`, /\(HPE_INVALID_\w+\)\. .* correct the address/],
      [`${url}/cut`, /\(UND_ERR_SOCKET\)\. .* correct the address/],
      [tls, /\((?:ERR_SSL_\w+|EPROTO)\)\. .* http or https/],
    ] as const) {
      const { code, errors } = await warm([address], { DATABASE_URL: '' });
      expect([code, errors]).toEqual([69, expect.stringMatching(reason)]);
    }
  });

  it('end early when nobody is there, and not because the first rows are bad', async () => {
    const away = await warm([`http://127.0.0.1:2/{n}?key=hunter2`, '--rows', numbers(10_000), '--json']);
    expect(away.code).toBe(69);
    expect(away.errors).toContain(
      'Stopped: 10 of 10 requests failed (ECONNREFUSED). Start the functions, or correct the address',
    );
    expect(away.text + away.errors).not.toContain('hunter2');
    const url = await serve((request, response) => {
      const isBad = Number(request.url?.slice(1)) <= 30;
      response.setHeader('x-cache', 'MISS').writeHead(isBad ? 400 : 200);
      response.end();
    });
    const bad = await warm([`${url}/{n}`, '--rows', numbers(40), '--json']);
    expect(bad).toMatchObject({
      code: 1,
      errors: expect.stringContaining('30 of 40 requests failed (HTTP 400)'),
    });
    expect(bad.json()).toMatchObject({ asked: 40, answered: 10, failed: { 'HTTP 400': 30 } });
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
    ['a name of too many parts', ['--table', 'a.b.c.d'], 64, /too many dotted names\): a\.b\.c\.d/],
    [
      'an unknown schema',
      ['--table', 'elsewhere.t'],
      64,
      /relation "elsewhere.t" does not exist. Name the table/,
    ],
    ['nonsense', ['--rows', 'selec 1'], 64, /syntax error at or near/],
    ['two statements', ['--rows', 'select 1) as x; commit; select (1'], 64, /multiple commands/],
    ['a write', ['--rows', 'delete from public.quotas returning org_id as nowhere'], 64, /syntax error/],
    [
      'a write in a function',
      ['--rows', "select public.record_usage('org-acme', 'openai', 'gpt-5-mini', 1)::text as nowhere"],
      64,
      /read-only transaction/,
    ],
    [
      'bad data, without repeating it',
      ['--rows', "select v::int as nowhere from (values ('a secret')) as t (v)"],
      64,
      /^(?!.*secret).*cannot be read: SQLSTATE 22P02: a value does not fit its type or function: run it/,
    ],
    ['neither', [], 64, /A URL with {column} takes either --table .* or --rows/],
    ['both', ['--table', 'public.quotas', '--rows', 'select 1'], 64, /either --table .* or --rows/],
    ['a limit of 0', ['--table', 'public.quotas', '--limit', '0'], 64, /whole number from 1 to 100000/],
  ])('refuses %s', async (_, parameters, expected, message) => {
    const { code, errors, text } = await warm(['http://127.0.0.1:9/{nowhere}', ...parameters]);
    expect(errors).toMatch(message);
    expect([code, text]).toEqual([expected, '']);
  });

  it('refuses rows for an address without a place for them, and an address that is none', async () => {
    const aimless = await warm(['http://127.0.0.1:9/', '--table', 'public.quotas']);
    expect(aimless).toMatchObject({ code: 64, errors: expect.stringContaining('others none') });
    const none = await warm(['{nowhere}', '--table', 'public.quotas']);
    expect(none).toMatchObject({ code: 64, errors: expect.stringContaining('begins with http') });
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
