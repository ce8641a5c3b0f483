/**
 * However a call ends, nothing of it is left: no load that later callers would wait for, no key that is "being refreshed" for ever,
 * no waiter that is still counted, no unhandled rejection.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createCore } from '../../supabase/functions/_shared/cache/client/create-cache.ts';
import { resolve } from '../../supabase/functions/_shared/cache/client/get-or-set.ts';
import type { Core, LoadMany } from '../../supabase/functions/_shared/cache/client/loader.ts';
import type { GetOrSetOptions } from '../../supabase/functions/_shared/cache/client/options.ts';
import { types } from '../../supabase/functions/_shared/key-types.ts';
import { useUpstash } from '../support/upstash.ts';
import { eventually, gate } from './conformance/support.ts';

const KEYS = ['quota:leak:a:1', 'quota:leak:a:2', 'cost:leak:1'];
const TTL_SECONDS = 60;

const upstash = useUpstash();
const unheard: unknown[] = [];
const hear = (reason: unknown) => unheard.push(reason);

beforeAll(() => {
  process.on('unhandledRejection', hear);
});

afterAll(() => {
  process.off('unhandledRejection', hear);
});

let prefixes = 0;

afterEach(() => {
  expect(unheard).toEqual([]);
});

it('lets one signal serve hundreds of calls at once: Node warns of no leak, and its abort ends them all', async () => {
  const warnings: Error[] = [];
  const note = (warning: Error) => warnings.push(warning);
  process.on('warning', note);
  onTestFinished(() => {
    process.off('warning', note);
  });
  // Without Redis, which has no part in it.
  const on = createCore({ connection: null });
  const controller = new AbortController();
  const { signal } = controller;
  const finish = gate();
  let loading = 0;
  const askAll = (load: LoadMany) =>
    Array.from({ length: 300 }, (_, index) => ask(on, [`signal:${index}`], load, { signal }));
  const finishing = askAll(async (keys) => {
    loading++;
    await finish.opened;
    return new Map(keys.map((key) => [key, 1]));
  });
  await eventually(async () => loading === 300, 'all loads are under way');
  finish.open();
  await Promise.all(finishing);
  const ended = Promise.allSettled(
    askAll(() => {
      loading++;
      return new Promise(() => {});
    }),
  );
  await eventually(async () => loading === 600, 'all loads are under way again');
  controller.abort(new Error('the request is over'));
  expect(new Set((await ended).map(({ status }) => status))).toEqual(new Set(['rejected']));
  await new Promise((resolve) => setImmediate(resolve));
  expect(warnings).toEqual([]);
});

function core(): Core {
  const prefix = `${prefixes++}:`;
  return createCore({
    types,
    url: upstash.gateway.url,
    token: upstash.gateway.token,
    prefix,
    timeout: 5_000,
    lease: 100,
    log: () => {},
  });
}

function ask(on: Core, keys: readonly string[], load: LoadMany, options: GetOrSetOptions = {}) {
  return resolve(
    on,
    keys.map((key) => on.catalogue.planFor(key)),
    { load, ttl: TTL_SECONDS, options },
  );
}

async function nothingIsLeft(on: Core): Promise<void> {
  await eventually(
    async () => on.singleFlight.size === 0 && on.refreshing.size === 0,
    'everything has ended',
  );
}

const ones: LoadMany = async (keys) => new Map(keys.map((key) => [key, 1]));

it('a batch of many keys is no leak to Node, and giving it up settles all of its loads', async () => {
  const warnings: string[] = [];
  const warn = (warning: Error) => warnings.push(warning.name);
  process.on('warning', warn);
  const on = core();
  const many = Array.from({ length: 30 }, (_, index) => `quota:leak:many:${index}`);
  await ask(on, many, ones);
  const giveUp = new AbortController();
  const asked = gate();
  const given = ask(
    on,
    many.map((key) => `${key}-again`),
    () => {
      asked.open();
      return new Promise(() => undefined);
    },
    { signal: giveUp.signal },
  );
  await asked.opened;
  giveUp.abort(new Error('enough'));
  await expect(given).rejects.toThrow('enough');
  await nothingIsLeft(on);
  // Node emits its warnings in the next turn of the event loop.
  await new Promise((done) => setImmediate(done));
  process.off('warning', warn);
  expect(warnings).toEqual([]);
});
const none: LoadMany = async () => null as unknown as Record<string, unknown>;
const broken: LoadMany = async () => {
  throw new Error('no database');
};
const abrupt = (() => {
  throw new Error('not even a promise');
}) as unknown as LoadMany;
const never: LoadMany = () => new Promise(() => {});
const uncacheable: LoadMany = async (keys) => new Map(keys.map((key) => [key, new Date()]));

describe('nothing is left of', () => {
  it.each([
    ['answers', ones, {}],
    ['answers that are not stored', ones, { bypass: true }],
    ['values that cannot be cached', uncacheable, {}],
    ['a loader that gives nothing', none, {}],
    ['a loader that fails', broken, {}],
    ['a loader that throws at once', abrupt, {}],
    ['a loader that never ends, with a timeout', never, { timeout: 10 }],
    ['a loader that never ends, with a signal', never, { signal: 'soon' }],
  ] as const)('%s', async (_, load, chosen) => {
    const on = core();
    const options: GetOrSetOptions = 'signal' in chosen ? { signal: AbortSignal.timeout(50) } : chosen;
    const calls = [KEYS, KEYS.slice(1), KEYS.slice(0, 1)].map((keys) =>
      ask(on, keys, async (...given) => load(...given), options),
    );
    await Promise.allSettled(calls);
    await nothingIsLeft(on);
  });

  it('a batch that fails while it waits for another caller’s load', async () => {
    const on = core();
    const [shared = '', own = ''] = KEYS;
    const row = gate<number>();
    const loading = gate<AbortSignal>();
    const controller = new AbortController();
    const first = ask(
      on,
      [shared],
      async (_, { signal }) => {
        loading.open(signal);
        return new Map([[shared, await row.opened]]);
      },
      { signal: controller.signal },
    );
    const signal = await loading.opened;
    await expect(ask(on, [shared, own], broken)).rejects.toThrow('no database');
    await expect(ask(on, [shared, own], none)).rejects.toMatchObject({ code: 'INVALID_LOAD' });
    expect(signal.aborted).toBe(false);
    controller.abort(new Error('gone'));
    await expect(first).rejects.toThrow('gone');
    expect(signal.aborted).toBe(true);
    await nothingIsLeft(on);
  });

  it('refreshes that fail or never end', async () => {
    const on = core();
    let ahead = 0;
    const moved: Core = { ...on, runtime: { ...on.runtime, now: () => Date.now() + ahead } };
    const options = { staleWhileRevalidate: 600, degradedMaxAge: 600, timeout: 10 };
    await ask(moved, KEYS, ones, { staleWhileRevalidate: 600, degradedMaxAge: 600 });
    ahead = TTL_SECONDS * 1_000;
    for (const load of [broken, none, never, uncacheable]) {
      expect((await ask(moved, KEYS, load, options)).size).toBe(3);
      await nothingIsLeft(moved);
    }
  });
});
