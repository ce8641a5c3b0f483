/**
 * From a write to the function's next answer, through trigger, outbox, worker and Redis. After a confirmed write no function answers
 * with the old row, and a removed member is refused although the answers they have read are still cached.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { USERS } from './support/callers.ts';
import { type Called, type FunctionStack, type Parameters, startFunctionStack } from './support/stack.ts';

let stack: FunctionStack;

beforeAll(async () => {
  stack = await startFunctionStack();
});
afterAll(() => stack?.stop());

/** Reads twice; the second answer must be a hit. */
async function readTwice(
  name: string,
  parameters: Parameters,
  as: 'member' | 'removed' = 'member',
): Promise<Called> {
  await stack.call(name, parameters, { as });
  const second = await stack.call(name, parameters, { as });
  expect([second.status, second.headers.get('x-cache')]).toEqual([200, 'HIT']);
  return second;
}

const today = () => new Date().toISOString().slice(0, 10);
const tomorrow = () => new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
const quota = { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' };

it('refuses a removed member at once, and answers again when they are added again', async () => {
  const usage = { org: 'org-acme', start: today(), end: today() };
  await stack.sql("insert into public.org_members (org_id, user_id) values ('org-acme', $1)", [
    USERS.removed,
  ]);
  await stack.settled();
  await readTwice('quota-check', quota, 'removed');
  await readTwice('usage-summary', usage, 'removed');

  await stack.sql("delete from public.org_members where org_id = 'org-acme' and user_id = $1", [
    USERS.removed,
  ]);
  await stack.settled();
  for (const [name, parameters] of [
    ['quota-check', quota],
    ['usage-summary', usage],
  ] as const) {
    const refused = await stack.call(name, parameters, { as: 'removed' });
    expect(refused).toMatchObject({ status: 403, body: { code: 'NOT_A_MEMBER' } });
    // The organisation's answer was not invalidated: other members still hit it.
    await readTwice(name, parameters);
  }

  await stack.sql("insert into public.org_members (org_id, user_id) values ('org-acme', $1)", [
    USERS.removed,
  ]);
  await stack.settled();
  expect(await stack.call('quota-check', quota, { as: 'removed' })).toMatchObject({ status: 200 });
  await stack.sql("delete from public.org_members where org_id = 'org-acme' and user_id = $1", [
    USERS.removed,
  ]);
});

it('shows recorded usage in the next quota check', async () => {
  const before = (await readTwice('quota-check', quota)).body as { used: number };
  await stack.sql("select public.record_usage('org-acme', 'openai', 'gpt-5-mini', 900, 100)");
  await stack.settled();
  const after = await stack.call('quota-check', quota, { as: 'member' });
  expect(after).toMatchObject({ body: { used: before.used + 1_000 } });
  expect(after.headers.get('x-cache')).toBe('MISS');
});

it('caches the absence of a quota, and lets a more specific one decide as soon as it exists', async () => {
  const parameters = { org: 'org-globex', provider: 'openai', model: 'gpt-5-nano' };
  const absent = await stack.call('quota-check', parameters, { as: 'stranger' });
  expect(absent).toMatchObject({ status: 404, body: { code: 'QUOTA_NOT_FOUND' } });
  const again = await stack.call('quota-check', parameters, { as: 'stranger' });
  expect([again.status, again.headers.get('x-cache')]).toEqual([404, 'HIT']);

  const scopes: unknown[] = [];
  for (const [provider, model] of [
    [null, null],
    ['openai', null],
    ['openai', 'gpt-5-nano'],
  ]) {
    await stack.sql(
      "insert into public.quotas (org_id, provider, model, token_limit) values ('org-globex', $1, $2, 5)",
      [provider, model],
    );
    await stack.settled();
    scopes.push((await stack.call('quota-check', parameters, { as: 'stranger' })).body);
  }
  expect(scopes).toMatchObject([{ scope: 'organization' }, { scope: 'provider' }, { scope: 'model' }]);
});

it('shows a new price in the next estimate, and keeps other models cached', async () => {
  const nano = { provider: 'openai', model: 'gpt-5-nano', input_tokens: 1_000_000, output_tokens: 0 };
  const other = { ...nano, model: 'gpt-4.1' };
  expect((await readTwice('cost-estimate', nano)).body).toMatchObject({ cost: '0.05' });
  await readTwice('cost-estimate', other);
  await stack.sql("update public.model_prices set input_per_mtok = 0.07 where model = 'gpt-5-nano'");
  await stack.settled();
  const after = await stack.call('cost-estimate', nano, { as: 'member' });
  expect([after.body, after.headers.get('x-cache')]).toMatchObject([{ cost: '0.07' }, 'MISS']);
  expect((await stack.call('cost-estimate', other, { as: 'member' })).headers.get('x-cache')).toBe('HIT');
});

it('shows the new state of a session, and hides it from its former owner', async () => {
  const parameters = { id: 'session-acme-1' };
  await readTwice('session-state', parameters);
  await stack.sql(`update public.sessions set state = '{"step": "sent"}' where id = 'session-acme-1'`);
  await stack.settled();
  expect(await stack.call('session-state', parameters, { as: 'member' })).toMatchObject({
    body: { state: { step: 'sent' } },
  });

  await stack.sql("update public.sessions set user_id = $1 where id = 'session-acme-1'", [USERS.owner]);
  await stack.settled();
  expect((await stack.call('session-state', parameters, { as: 'member' })).status).toBe(404);
  expect((await stack.call('session-state', parameters, { as: 'owner' })).status).toBe(200);
});

it('shows preferences that a user has written through the API in their next read', async () => {
  expect((await readTwice('user-preferences', {})).body).toMatchObject({
    preferences: { theme: 'dark', locale: 'en' },
  });
  const written = await fetch(`${stack.apiUrl}/rest/v1/user_preferences?user_id=eq.${USERS.member}`, {
    method: 'PATCH',
    headers: {
      'content-type': 'application/json',
      apikey: stack.tokens.anonymous ?? '',
      authorization: `Bearer ${stack.tokens.member}`,
    },
    body: JSON.stringify({ preferences: { theme: 'light' } }),
  });
  expect(written.status).toBe(204);
  await stack.settled();
  expect((await stack.call('user-preferences', {}, { as: 'member' })).body).toMatchObject({
    preferences: { theme: 'light' },
    is_default: false,
  });

  await stack.sql('delete from public.user_preferences where user_id = $1', [USERS.member]);
  await stack.settled();
  expect((await stack.call('user-preferences', {}, { as: 'member' })).body).toMatchObject({
    preferences: { theme: 'system' },
    is_default: true,
  });
});

it('shows usage at once after a quiet minute, then within a minute, and never loses the last event', async () => {
  // Midnight may pass meanwhile.
  const parameters = { org: 'org-quiet', start: today(), end: tomorrow() };
  await stack.sql("insert into public.org_members (org_id, user_id) values ('org-quiet', $1)", [
    USERS.stranger,
  ]);
  const requests = async () => {
    const called = await stack.call('usage-summary', parameters, { as: 'stranger' });
    return (called.body as { totals: { requests: number } }).totals.requests;
  };
  const before = await requests();
  expect(await requests()).toBe(before);
  await stack.sql("select public.record_usage('org-quiet', 'openai', 'gpt-5-mini', 10)");
  await stack.settled();
  expect(await requests()).toBe(before + 1);

  // The second invalidation within the minute waits: it is stored with the time at which it is due.
  await stack.sql("select public.record_usage('org-quiet', 'openai', 'gpt-5-mini', 10)");
  await stack.settled();
  const [waiting] = await stack.sql(
    "select extract(epoch from due_at - now())::float as seconds from cache_invalidation.pending where target = 'usage:org-quiet:*'",
  );
  expect(waiting?.seconds).toBeGreaterThan(0);
  expect(waiting?.seconds).toBeLessThanOrEqual(60);

  // Stands for the minute that passes.
  await stack.sql("update cache_invalidation.pending set due_at = now() where target = 'usage:org-quiet:*'");
  await expect.poll(requests).toBe(before + 2);
});
