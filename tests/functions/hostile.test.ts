/**
 * Attacks over real HTTP. No request crashes the isolate: it answers the next valid request. No answer leaks a stack, an address or
 * a value of another tenant, and the log stays empty. No identifier collides with another key.
 */
import { request as httpRequest } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type FunctionStack, startFunctionStack } from './support/stack.ts';

let stack: FunctionStack;

beforeAll(async () => {
  stack = await startFunctionStack();
});
afterAll(() => stack?.stop());

const valid = { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' };

afterEach(async () => {
  expect(await stack.call('quota-check', valid, { as: 'member' })).toMatchObject({
    status: 200,
    body: { used: 250_000 },
  });
  expect(stack.lines).toEqual([]);
});

/** Sends a body unchanged. fetch would change some of these. */
function send(
  name: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      `${stack.functions.url}/${name}`,
      {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          authorization: `Bearer ${stack.tokens.member}`,
          ...headers,
        },
      },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString() }),
        );
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

function expectClean(text: string): void {
  expect(JSON.parse(text)).toMatchObject({
    code: expect.stringMatching(/^[A-Z_]+$/),
    detail: expect.any(String),
  });
  expect(text).not.toMatch(/\\n|\.ts\b|127\.0\.0\.1|localhost|postgres|redis|PGRST|eyJ/i);
}

describe('bodies', () => {
  it.each([
    ['deep arrays', '['.repeat(16_000)],
    ['deep objects', '{"a":'.repeat(3_000)],
    ['a deep value', `{"org":${'['.repeat(8_000)}${']'.repeat(8_000)}}`],
    ['a megabyte', `{"org":"${'x'.repeat(1_000_000)}"}`],
    ['a string without an end', `"${'\\"'.repeat(8_190)}`],
    ['an array', '[{"org":"org-acme"}]'],
    ['wrong types', '{"org":{"$ne":null},"provider":"openai","model":"gpt-5-mini"}'],
    ['numbers as names', '{"org":1,"provider":2,"model":3}'],
    ['a name twice', '{"org":"org-globex","org":"org-acme","provider":"openai","model":"gpt-5-mini"}'],
    ['__proto__', '{"__proto__":{"org":"org-acme"},"provider":"openai","model":"gpt-5-mini"}'],
    ['constructor', '{"constructor":"x","org":"org-acme","provider":"openai","model":"gpt-5-mini"}'],
    ['not JSON', '{org: org-acme}'],
    ['nothing', ''],
    ['a byte order mark alone', '\ufeff'],
    ['10 kB of a name', JSON.stringify({ ...valid, model: 'm'.repeat(10_000) })],
    ['NUL', JSON.stringify({ ...valid, org: 'org-acme\u0000' })],
    ['an escape sequence', JSON.stringify({ ...valid, org: '\u001b[31morg-acme' })],
    ['half of a surrogate pair', '{"org":"\\ud83d","provider":"openai","model":"gpt-5-mini"}'],
  ])('%s', async (_what, body) => {
    const { status, text } = await send('quota-check', body);
    expect([400, 413]).toContain(status);
    expectClean(text);
  });

  it('bytes that are no text', async () => {
    const { status, text } = await send('quota-check', Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d]));
    expect(status).toBe(400);
    expectClean(text);
  });

  it('a form instead of JSON', async () => {
    const { status, text } = await send('quota-check', 'org=org-acme', {
      'content-type': 'application/x-www-form-urlencoded',
    });
    expect(status).toBe(415);
    expectClean(text);
  });
});

/** A value with a short name for the test's title. */
function labelled(value: string): [string, string] {
  return [JSON.stringify(value.slice(0, 32)), value];
}

describe('identifiers', () => {
  const hostile = [
    "' or 1=1 --",
    'org-acme; drop table quotas',
    'org-acme,org-globex',
    'eq.org-globex',
    'in.(org-acme,org-globex)',
    '*',
    '%',
    'quota:*',
    '../org-globex',
    'org-globex:openai:gpt-5-mini',
    'org-globex%3Aopenai',
    '~0000',
    '{{7*7}}',
    'ORG-ACME',
    ' org-acme',
    'org-acme\u00a0',
    'é'.repeat(250),
    '🔥'.repeat(250),
  ];

  it.each(hostile.map(labelled))('refuses %s as an organisation', async (_label, org) => {
    for (const method of ['GET', 'POST']) {
      const called = await stack.call('quota-check', { ...valid, org }, { as: 'member', method });
      expect([called.status, called.body]).toMatchObject([403, { code: 'NOT_A_MEMBER' }]);
    }
  });

  it.each(hostile.map(labelled))('finds no session %s', async (_label, id) => {
    expect(await stack.call('session-state', { id }, { as: 'member' })).toMatchObject({
      status: 404,
      body: { code: 'SESSION_NOT_FOUND' },
    });
  });

  it("never collide with another tenant's key", async () => {
    // quota:{org}:{provider}:{model} with a colon inside the organisation, and with one inside the provider.
    for (const [org, provider] of [
      ['org-x', 'y:z'],
      ['org-x:y', 'z'],
    ] as const) {
      await stack.sql(
        'insert into public.quotas (org_id, provider, model, token_limit) values ($1, $2, $3, $4)',
        [org, provider, 'm', org.length],
      );
    }
    await stack.settled();
    const limits = async () => {
      const first = await stack.call(
        'quota-check',
        { org: 'org-x', provider: 'y:z', model: 'm' },
        { as: 'service' },
      );
      const second = await stack.call(
        'quota-check',
        { org: 'org-x:y', provider: 'z', model: 'm' },
        { as: 'service' },
      );
      return [first, second].map((called) => (called.body as { limit: number }).limit);
    };
    expect(await limits()).toEqual([5, 7]);
    expect(await limits()).toEqual([5, 7]);

    // The same for `member:{org}:{user}`: an organisation that looks like one with a user is refused.
    const nobody = await stack.call(
      'quota-check',
      { ...valid, org: `org-acme:${'1'.repeat(8)}` },
      { as: 'stranger' },
    );
    expect(nobody.status).toBe(403);
  });

  it('of the maximum length differ in their last character', async () => {
    const base = 'm'.repeat(511);
    for (const [index, last] of ['a', 'b'].entries()) {
      await stack.sql(
        'insert into public.model_prices (provider, model, input_per_mtok) values ($1, $2, $3)',
        ['long', base + last, index + 1],
      );
    }
    await stack.settled();
    for (const round of [1, 2]) {
      for (const [index, last] of ['a', 'b'].entries()) {
        const parameters = {
          provider: 'long',
          model: base + last,
          input_tokens: 1_000_000,
          output_tokens: 0,
        };
        const called = await stack.call('cost-estimate', parameters, { as: 'member' });
        expect([round, called.body]).toMatchObject([round, { cost: String(index + 1) }]);
      }
    }
  });
});

describe('tokens', () => {
  const bad = ['', ' ', 'a.b.c', 'null', '../../etc/passwd', 'x'.repeat(7_000), 'eyJhbGciOiJub25lIn0.e30.'];
  it.each(bad.map(labelled))('refuses %s', async (_label, token) => {
    const called = await stack.call('quota-check', valid, { headers: { authorization: `Bearer ${token}` } });
    expect(called.status).toBe(401);
    expectClean(called.text);
  });

  it('are not read from the query', async () => {
    const called = await stack.call('quota-check', { ...valid, apikey: stack.tokens.service ?? '' });
    expect([400, 401]).toContain(called.status);
    expect(called.text).not.toContain(stack.tokens.service);
  });
});
