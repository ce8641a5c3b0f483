import { expect, it, onTestFinished, vi } from 'vitest';
import type { CacheState, DatabaseState } from '../../diagnostics/status/status.ts';
import type { Overview } from './overview.ts';
import { dashboardPage } from './page.ts';

const healthy: Overview = {
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
  database: null,
  queue: null,
  cache: null,
  latency: null,
  commands: 0,
};
const database: DatabaseState = {
  leader: { pid: 1, silentMs: 10 },
  contested: false,
  workers: 1,
  unfit: 0,
  outbox: { rows: 0, oldestMs: 0 },
  throttled: { waiting: 0, dueInMs: null },
  problems: [],
};
const cache: CacheState = { heartbeat: 'alive', hitRates: null, consistency: null, problems: [] };
const page = async (changes: Partial<Overview>) => String(await dashboardPage({ ...healthy, ...changes }));
const read = <T>(value: T) => ({ value, at: Date.now() });

it('shows a reason once, and escaped', async () => {
  const reason = '<script>alert("1")</script> & more';
  const text = await page({
    readiness: { ...healthy.readiness, ready: false, reasons: [reason] },
    cache: read({ ...cache, problems: [reason] }),
  });
  expect(text).not.toContain('<script>alert');
  expect(text.split('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; more').length).toBe(2);
  expect(text).toContain('Invalidations do not flow');
});

it('counts stale entries without their keys, which hold names of tenants', async () => {
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

it('marks an outbox that no worker delivers', async () => {
  expect(await page({ database: read(database) })).toContain('<article class="plain"><h2>Outbox</h2>');
  for (const leader of [null, { pid: 1, silentMs: 60_000 }]) {
    expect(await page({ database: read({ ...database, leader }) })).toContain(
      '<article class="bad"><h2>Outbox</h2>',
    );
  }
  expect(await page({ database: read({ ...database, leader: null, contested: true }) })).toContain(
    '<article class="plain"><h2>Outbox</h2>',
  );
});

it('shows what has not answered yet', async () => {
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

it('of a standby shows when invalidations do not flow', async () => {
  const standby = { ...healthy.readiness, role: 'following' as const };
  const late = await page({
    readiness: standby,
    database: read({ ...database, outbox: { rows: 4, oldestMs: 90_000 } }),
  });
  expect(late).toContain('Invalidations do not flow');
  expect(late).toContain('The oldest row of the outbox has waited for 90.0 s.');
  const beatless = await page({ readiness: standby, cache: read({ ...cache, heartbeat: 'missing' }) });
  expect(beatless).toContain('Invalidations do not flow');
  expect(beatless).toContain('There is no heartbeat in Redis');
});

it('says how old it is when the database does not answer', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  expect(await page({ database: { value: database, at: Date.now() - 40_000 } })).toContain(
    'is up to 40.0 s old',
  );
  expect(await page({ database: read(database) })).not.toContain(' old: they do not answer now');
});

it('does not take a Redis that is away for a missing audit', async () => {
  expect(await page({ cache: read({ ...cache, heartbeat: null }) })).toContain(
    'unknown: Redis did not answer',
  );
});
