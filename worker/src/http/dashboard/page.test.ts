import { expect, it } from 'vitest';
import type { CacheState, DrainState } from '../../diagnostics/status/status.ts';
import type { Overview } from './overview.ts';
import { dashboardPage } from './page.ts';

const well: Overview = {
  readiness: {
    ready: true,
    role: 'leading',
    doorbell: null,
    listening: true,
    lagMs: 0,
    heartbeatAgeMs: 1,
    reasons: [],
    warnings: [],
  },
  drain: null,
  queue: null,
  cache: null,
  latency: null,
  commands: 0,
};
const drain: DrainState = {
  leader: { pid: 1, silentMs: 10 },
  contested: false,
  workers: 1,
  unfit: 0,
  outbox: { rows: 0, oldestMs: 0 },
  deferred: { waiting: 0, dueInMs: null },
  problems: [],
};
const cache: CacheState = { heartbeat: 'alive', hitRates: null, consistency: null, problems: [] };
const page = async (changes: Partial<Overview>) => String(await dashboardPage({ ...well, ...changes }));
const read = <T>(value: T) => ({ value, at: Date.now() });

it('shows a reason as text, whatever is in it, and once', async () => {
  const reason = '<script>alert("1")</script> & more';
  const text = await page({
    readiness: { ...well.readiness, ready: false, reasons: [reason] },
    cache: read({ ...cache, problems: [reason] }),
  });
  expect(text).not.toContain('<script>alert');
  expect(text.split('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; more').length).toBe(2);
  expect(text).toContain('Invalidations do not flow');
});

it('counts stale entries and names none: keys hold names of tenants', async () => {
  const consistency = {
    at: new Date().toISOString(),
    compared: 9,
    stale: ['quota:secret-org:a:b'],
    skipped: {},
  };
  const text = await page({ cache: read({ ...cache, consistency }) });
  expect(text).toContain('1 stale');
  expect(text).not.toContain('secret-org');
});

it('marks an outbox that nobody drains', async () => {
  expect(await page({ drain: read(drain) })).toContain('<article class="plain"><h2>Outbox</h2>');
  for (const leader of [null, { pid: 1, silentMs: 60_000 }]) {
    expect(await page({ drain: read({ ...drain, leader }) })).toContain(
      '<article class="bad"><h2>Outbox</h2>',
    );
  }
  expect(await page({ drain: read({ ...drain, leader: null, contested: true }) })).toContain(
    '<article class="plain"><h2>Outbox</h2>',
  );
});

it('says so when it knows nothing yet', async () => {
  const text = await page({});
  expect(text).toContain('the database has not answered yet');
  expect(text).toContain('the queue has not answered yet');
  expect(text).toContain('has not been asked yet');
});

it('marks dead letters, with the remedy', async () => {
  const text = await page({ queue: read({ waiting: 0, active: 0, delayed: 0, failed: 3 }) });
  expect(text).toContain(
    '<article class="bad"><h2>Dead letters</h2><p class="value">3</p><p>run them again: fencepost retry.',
  );
});

it('of a standby does not say that invalidations flow while they do not', async () => {
  const standby = { ...well.readiness, role: 'following' as const };
  const late = await page({
    readiness: standby,
    drain: read({ ...drain, outbox: { rows: 4, oldestMs: 90_000 } }),
  });
  expect(late).toContain('Invalidations do not flow');
  expect(late).toContain('The oldest row of the outbox has waited for 90.0 s.');
  const beatless = await page({ readiness: standby, cache: read({ ...cache, heartbeat: 'missing' }) });
  expect(beatless).toContain('Invalidations do not flow');
  expect(beatless).toContain('There is no heartbeat in Redis');
});

it('says how old it is when the database does not answer', async () => {
  expect(await page({ drain: { value: drain, at: Date.now() - 40_000 } })).toContain('is up to 40.0 s old');
  expect(await page({ drain: read(drain) })).not.toContain(' old: they do not answer now');
});

it('takes a Redis that is away for no missing audit', async () => {
  expect(await page({ cache: read({ ...cache, heartbeat: null }) })).toContain(
    'unknown: Redis did not answer',
  );
});
