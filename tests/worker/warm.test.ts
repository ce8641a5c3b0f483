import { describe, expect, it } from 'vitest';
import { cloneDatabase } from '../support/database.ts';
import { costs, numbers, serve, stack, useReaders, warm } from './support/warming.ts';

useReaders();

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
    expect(errors).toMatch(/^fencepost: 2 of 4 requests failed \(HTTP 400\)\./);
    const absent = await stack.call(
      'cost-estimate',
      { provider: 'openai', model: 'of nobody', input_tokens: 0, output_tokens: 0 },
      { as: 'member' },
    );
    expect([absent.status, absent.headers.get('x-cache')]).toEqual([404, 'HIT']);
  });

  it.each([
    ['no token', ''],
    ['another token', 'eyJhbGciOiJIUzI1NiJ9.e30.forged'],
    ['a key of another project', 'sb_secret_of_others'],
  ])('refuse %s: it stops', async (_, token) => {
    const { code, text, errors } = await warm([costs(), '--table', 'public.model_prices', '--json'], {
      FENCEPOST_WARM_TOKEN: token,
    });
    expect(code).toBe(77);
    expect(errors).toMatch(/^fencepost: Stopped: 10 of 10 requests failed \(HTTP 401\)\./);
    expect(errors).toContain('set FENCEPOST_WARM_TOKEN to a secret key');
    expect(JSON.parse(text)).toMatchObject({ asked: 10, failed: { 'HTTP 401': 10 } });
    if (token !== '') expect(text + errors).not.toContain(token);
  });

  it('are asked once where there is no placeholder, without a database', async () => {
    const { code, text } = await warm([`${stack.functions.url}/health-check`], { DATABASE_URL: '' });
    expect(code).toBe(0);
    expect(text).toMatch(/^unmarked +1 /m);
    expect(text).toContain('No answer says x-cache: it may not be cached.');
    const wrong = await warm([`${stack.functions.url}/health-chekc`], { DATABASE_URL: '' });
    expect(wrong).toMatchObject({ code: 1 });
    expect(wrong.errors).toContain('Nothing is served at this path');
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
