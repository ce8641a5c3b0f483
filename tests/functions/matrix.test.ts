/**
 * Every endpoint, for every kind of caller, with a cold and with a full cache. A function answers if and only if Postgres shows
 * the row to this caller. So a cached answer is exactly as private as the row it was loaded from.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CALLERS, type CallerName, USERS } from './support/callers.ts';
import { type Called, type FunctionStack, type Parameters, startFunctionStack } from './support/stack.ts';

let stack: FunctionStack;

beforeAll(async () => {
  stack = await startFunctionStack();
  await stack.functions.warm(ENDPOINTS.map(({ name }) => name));
});
afterAll(() => stack?.stop());

/** A day in UTC, counted from today. The seed's usage is of the last two weeks. */
function day(offset: number): string {
  return new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);
}

interface Endpoint {
  readonly name: string;
  readonly parameters: Parameters;
  /** The row behind the answer. Those to whom Postgres shows it may have the answer. */
  readonly row: string;
  /** Matches text that only the answer holds. */
  readonly secret: RegExp;
  readonly refusals: readonly number[];
}

const ENDPOINTS: readonly Endpoint[] = [
  {
    name: 'quota-check',
    parameters: { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' },
    row: "select from public.quotas where org_id = 'org-acme' and model = 'gpt-5-mini'",
    secret: /250000|remaining/,
    refusals: [401, 403],
  },
  {
    name: 'usage-summary',
    parameters: { org: 'org-acme', start: day(-30), end: day(0) },
    row: "select from public.usage_events where org_id = 'org-acme' limit 1",
    secret: /input_tokens|cost/,
    refusals: [401, 403],
  },
  {
    name: 'cost-estimate',
    parameters: { provider: 'openai', model: 'gpt-5-mini', input_tokens: 1000, output_tokens: 10 },
    row: "select from public.model_prices where provider = 'openai' and model = 'gpt-5-mini'",
    secret: /breakdown/,
    refusals: [401],
  },
  {
    name: 'session-state',
    parameters: { id: 'session-acme-1' },
    row: "select from public.sessions where id = 'session-acme-1'",
    secret: /draft/,
    refusals: [401, 404],
  },
  {
    name: 'user-preferences',
    parameters: { user: USERS.member },
    row: `select from public.user_preferences where user_id = '${USERS.member}'`,
    secret: /dark/,
    refusals: [401, 403],
  },
];

/** Adds the removed caller as a member, lets them read, and removes them. */
async function removeAfterReading(endpoint: Endpoint): Promise<void> {
  await stack.sql("insert into public.org_members (org_id, user_id) values ('org-acme', $1)", [
    USERS.removed,
  ]);
  await stack.settled();
  await stack.call(endpoint.name, endpoint.parameters, { as: 'removed' });
  await stack.sql("delete from public.org_members where org_id = 'org-acme' and user_id = $1", [
    USERS.removed,
  ]);
  await stack.settled();
}

describe.each(ENDPOINTS)('$name', (endpoint) => {
  const call = (caller: CallerName) => stack.call(endpoint.name, endpoint.parameters, { as: caller });

  it.each(CALLERS)('answers %s as the policy does', async (caller) => {
    if (caller === 'removed') await removeAfterReading(endpoint);
    const mayRead = await stack.isVisibleTo(caller, endpoint.row);

    await stack.emptyCache();
    const onMiss = await call(caller);

    // Everybody who may read fills the cache: with the answer and with the caller's own membership, if there is one.
    for (const reader of ['member', 'owner', 'service', caller] as const) await call(reader);
    expect(await stack.entries()).not.toEqual([]);
    const onHit = await call(caller);

    if (mayRead) {
      expect([onMiss.status, onMiss.headers.get('x-cache')]).toEqual([200, 'MISS']);
      expect([onHit.status, onHit.headers.get('x-cache')]).toEqual([200, 'HIT']);
      expect(onMiss.text).toMatch(endpoint.secret);
      expect(onHit.body).toEqual(onMiss.body);
    } else {
      for (const refused of [onMiss, onHit]) {
        expect(endpoint.refusals).toContain(refused.status);
        expect(refused.headers.get('content-type')).toContain('application/problem+json');
        expect(refused.text).not.toMatch(endpoint.secret);
      }
      // The refusal must not reveal whether an answer is cached.
      expect(onHit.body).toEqual(onMiss.body);
      expect(onHit.headers.get('x-cache')).toBe(onMiss.headers.get('x-cache'));
      expect(timedParts(onHit)).toEqual(timedParts(onMiss));
    }
  });

  it("never gives a stranger's refusal to those who may read", async () => {
    const strangerMayRead = await stack.isVisibleTo('stranger', endpoint.row);
    await stack.emptyCache();
    const expected = await call('member');
    expect(expected.status).toBe(200);

    // A stranger's load is not stored for the next reader.
    await stack.emptyCache();
    expect((await call('stranger')).status === 200).toBe(strangerMayRead);
    expect(await call('member')).toMatchObject({ status: 200, body: expected.body });

    // Nobody who may read joins a stranger's load.
    for (let round = 0; round < 5; round += 1) {
      await stack.emptyCache();
      const callers = ['stranger', 'stranger', 'member', 'stranger', 'member', 'service'] as const;
      const answers = await Promise.all(callers.map(call));
      for (const [index, answer] of answers.entries()) {
        const mayRead = callers[index] !== 'stranger' || strangerMayRead;
        expect([callers[index], answer.status === 200]).toEqual([callers[index], mayRead]);
        if (mayRead) expect(answer.body).toEqual(expected.body);
      }
    }
  });
});

/** The parts that `server-timing` lists, in its order. */
function timedParts(called: Called): string[] {
  return (called.headers.get('server-timing') ?? '').split(', ').map((part) => part.replace(/;.*/, ''));
}

it('has callers on both sides of every policy', async () => {
  for (const endpoint of ENDPOINTS) {
    const verdicts = new Set<boolean>();
    for (const caller of CALLERS) verdicts.add(await stack.isVisibleTo(caller, endpoint.row));
    expect([endpoint.name, [...verdicts].sort()]).toEqual([endpoint.name, [false, true]]);
  }
});
