/**
 * Compares openapi.json with the running functions. Every operation answers as documented, for every documented status that a
 * request can cause, and no function answers with anything else. It also checks the import maps and the CLI's configuration.
 */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { PROBLEM_STATUS } from '../../supabase/functions/_shared/http/problem.ts';
import document from '../../supabase/functions/openapi.json' with { type: 'json' };
import {
  type Called,
  type CallOptions,
  type FunctionStack,
  type Parameters,
  startFunctionStack,
} from './support/stack.ts';

let stack: FunctionStack;

beforeAll(async () => {
  stack = await startFunctionStack();
});
afterAll(() => stack?.stop());

type Json = { readonly [name: string]: Json | undefined } & { readonly $ref?: string };
const root = document as unknown as Json;

function resolve(node: Json | undefined): Json | undefined {
  const reference = node?.$ref;
  if (typeof reference !== 'string') return node;
  return reference
    .slice(2)
    .split('/')
    .reduce<Json | undefined>((at, part) => at?.[part], root);
}

/** Checks an answer against the document's schema of this operation and status. */
function expectDocumented(name: string, method: string, called: Called): void {
  const responses = root.paths?.[`/${name}`]?.[method.toLowerCase()]?.responses;
  const response = resolve(responses?.[String(called.status)]);
  expect(response, `${method} ${name} answered ${called.status}: ${called.text}`).toBeDefined();
  const type = called.headers.get('content-type')?.split(';')[0] ?? '';
  const schema = resolve(response?.content?.[type]?.schema);
  expect(schema, `${method} ${name} ${called.status} as ${type}`).toBeDefined();
  const outcome = z.fromJSONSchema(schema as never).safeParse(called.body);
  expect(outcome.error?.issues, called.text).toBeUndefined();
  for (const header of Object.keys(response?.headers ?? {})) expect(called.headers.get(header)).toMatch(/./);
  if (type === 'application/problem+json') {
    const problem = called.body as { status: number; code: keyof typeof PROBLEM_STATUS };
    expect(problem.status).toBe(called.status);
    expect(PROBLEM_STATUS[problem.code]).toBe(called.status);
    expect(String(response?.description)).toContain(problem.code);
  }
}

const good: Readonly<Record<string, Parameters>> = {
  'quota-check': { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' },
  'usage-summary': { org: 'org-acme', start: '2026-11-01', end: '2026-11-30' },
  'cost-estimate': {
    provider: 'openai',
    model: 'gpt-5-mini',
    input_tokens: 10,
    output_tokens: 3,
    cached_tokens: 2,
  },
  'session-state': { id: 'session-acme-1' },
  'user-preferences': {},
  'health-check': {},
};

interface Case {
  readonly status: number;
  readonly parameters?: Parameters;
  readonly options?: CallOptions;
}

const member: CallOptions = { as: 'member' };
const cases: Readonly<Record<string, readonly Case[]>> = {
  'quota-check': [
    { status: 200 },
    { status: 400, parameters: { org: 'org-acme' } },
    { status: 401, options: {} },
    { status: 403, options: { as: 'stranger' } },
    {
      status: 404,
      parameters: { org: 'org-globex', provider: 'x', model: 'y' },
      options: { as: 'stranger' },
    },
  ],
  'usage-summary': [
    { status: 200 },
    { status: 400, parameters: { org: 'org-acme', start: '2026-11-02', end: '2026-11-01' } },
    { status: 400, parameters: { org: 'org-acme', start: '2025-01-01', end: '2026-11-01' } },
    { status: 400, parameters: { org: 'org-acme', start: '2026-02-30', end: '2026-11-01' } },
    { status: 401, options: {} },
    { status: 403, options: { as: 'stranger' } },
  ],
  'cost-estimate': [
    { status: 200 },
    {
      status: 400,
      parameters: {
        provider: 'openai',
        model: 'gpt-5-mini',
        input_tokens: 1,
        output_tokens: 1,
        cached_tokens: 2,
      },
    },
    { status: 401, options: { as: 'anonymous' } },
    { status: 404, parameters: { provider: 'openai', model: 'gpt-0', input_tokens: 1, output_tokens: 1 } },
    {
      status: 404,
      parameters: { provider: 'openai', model: 'text-embedding-3-small', input_tokens: 1, output_tokens: 1 },
    },
  ],
  'session-state': [
    { status: 200 },
    { status: 400, parameters: {} },
    { status: 401, options: {} },
    { status: 404, options: { as: 'owner' } },
  ],
  'user-preferences': [
    { status: 200 },
    { status: 400, options: { as: 'service' } },
    { status: 401, options: {} },
    { status: 403, parameters: { user: 'someone else' } },
  ],
  'health-check': [
    { status: 200, options: {} },
    { status: 400, parameters: { org: 'org-acme' } },
  ],
};

describe.each(Object.entries(cases))('%s', (name, list) => {
  it.each(['GET', 'POST'])('answers as documented by %s', async (method) => {
    for (const { status, parameters = good[name], options = member } of list) {
      const called = await stack.call(name, parameters, { ...options, method });
      expect([called.status, called.text]).toEqual([status, called.text]);
      expectDocumented(name, method, called);
    }
  });

  it('takes the documented parameters and no others', async () => {
    const operation = root.paths?.[`/${name}`];
    const inQuery = (operation?.get?.parameters as unknown as Json[] | undefined) ?? [];
    const names = inQuery.map((parameter) => String(resolve(parameter)?.name));
    const inBody = Object.keys(
      operation?.post?.requestBody?.content?.['application/json']?.schema?.properties ?? {},
    );
    expect(inBody).toEqual(names);
    const refused = await stack.call(name, { ...good[name], 'no-such-parameter': 1 }, member);
    expect(refused.body).toMatchObject({ code: 'INVALID_PARAMETER', field: 'no-such-parameter' });
    expect((refused.body as { detail: string }).detail).toContain(
      names.length === 0 ? 'none' : names.join(', '),
    );
  });

  it('refuses other methods, types and sizes', async () => {
    const put = await stack.call(name, {}, { ...member, method: 'PUT' });
    expect(put).toMatchObject({ status: 405, body: { code: 'METHOD_NOT_ALLOWED' } });
    expect(put.headers.get('allow')).toBe('GET, HEAD, POST, OPTIONS');
    const text = await fetch(`${stack.functions.url}/${name}`, {
      method: 'POST',
      body: 'x',
      headers: { authorization: `Bearer ${stack.tokens.member}` },
    });
    expect(text.status).toBe(415);
    const large = await stack.call(name, { org: 'x'.repeat(20_000) }, { ...member, method: 'POST' });
    expect(large.status).toBe(413);
    expectDocumented(name, 'POST', large);
  });

  it('answers HEAD as GET, without a body, and a POST without a body as one without parameters', async () => {
    const [first] = list;
    const options = { ...member, ...first?.options };
    const head = await stack.call(name, good[name], { ...options, method: 'HEAD' });
    expect([head.status, head.text]).toEqual([200, '']);
    expect(root.paths?.[`/${name}`]?.head?.responses?.['200']).toBeDefined();
    const post = await fetch(`${stack.functions.url}/${name}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.tokens.member}` },
    });
    const needsBody = root.paths?.[`/${name}`]?.post?.requestBody?.required as unknown;
    expect([name, post.status]).toEqual([name, needsBody ? 400 : 200]);
  });
});

it('documents every function, and every code', () => {
  expect(Object.keys(root.paths ?? {}).sort()).toEqual(
    [...stack.functions.names].map((name) => `/${name}`).sort(),
  );
  expect(root.components?.schemas?.Problem?.properties?.code?.enum).toEqual(
    Object.keys(PROBLEM_STATUS).sort(byStatus),
  );
});

function byStatus(a: string, b: string): number {
  const status = (code: string) => PROBLEM_STATUS[code as keyof typeof PROBLEM_STATUS];
  return status(a) - status(b);
}

it('declares every function for deployment, with the same pinned packages as the repository', async () => {
  const folder = new URL('../../supabase/', import.meta.url);
  const configuration = await readFile(new URL('config.toml', folder), 'utf8');
  const { devDependencies } = JSON.parse(await readFile(new URL('../package.json', folder), 'utf8'));
  const pinned = ['@supabase/supabase-js', '@upstash/redis', 'jose', 'lru-cache'].map((name) => [
    name,
    `npm:${name}@${devDependencies[name]}`,
  ]);
  for (const name of stack.functions.names) {
    expect(configuration).toContain(`[functions.${name}]\nenabled = true\nverify_jwt = false\n`);
    const map = JSON.parse(await readFile(new URL(`functions/${name}/deno.json`, folder), 'utf8'));
    expect([name, map]).toEqual([name, { imports: Object.fromEntries(pinned) }]);
  }
});
