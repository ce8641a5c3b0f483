import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { createClient } from 'redis';
import { describe, expect, it } from 'vitest';
import { onFreePort } from '../../local/parts/ports.ts';
import { startProcess } from '../../local/parts/process.ts';
import { ensureCommand } from '../../local/system-packages.ts';
import { asleep, ready, runCommand, startWorkerProcess } from './support/worker-process.ts';
import { useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

const command = (parameters: readonly string[], changes: Record<string, string> = {}) =>
  runCommand(stack.environment(changes), parameters);

interface Doctor {
  readonly ok: boolean;
  readonly findings: readonly { name: string; verdict: string; detail: string; remedy?: string }[];
}

describe('doctor', () => {
  it('finds nothing on a sound set-up with a worker', async () => {
    const worker = startWorkerProcess(stack.environment());
    await ready(worker);
    const { code, json } = await command(['doctor', '--json']);
    expect(json<Doctor>().findings.filter((finding) => finding.verdict === 'fail')).toEqual([]);
    expect(code).toBe(0);
  });

  it('names what is broken, each with its remedy', async () => {
    await stack.sql.query("create role lock_holder login password 's'");
    const place = new URL(stack.databaseUrl);
    place.username = 'lock_holder';
    place.password = 's';
    const foreign = new pg.Client(place.href);
    await foreign.connect();
    await foreign.query('select pg_advisory_lock(461870002)');
    await stack.sql.query('alter table public.sessions disable trigger all');
    await stack.sql.query("select cache_invalidation.invalidate('quota:old:*')");
    await stack.sql.query("update cache_invalidation.changes set at = now() - interval '2 hours'");
    const admin = createClient({ url: stack.redis.url });
    await admin.connect();
    await admin.configSet('maxmemory-policy', 'allkeys-lru');
    try {
      const { code, json } = await command(['doctor', '--json']);
      expect(code).toBe(1);
      const found = json<Doctor>().findings.filter((finding) => finding.verdict !== 'ok');
      for (const [name, detail] of [
        ['stranger', /role lock_holder.*leader lock/],
        ['worker', /none delivers/],
        ['watch', /sessions|missing or disabled/],
        ['outbox', /2\.0 h old/],
        ['eviction', /allkeys-lru/],
      ] as const) {
        const finding = found.find((entry) => entry.name.startsWith(name) && detail.test(entry.detail));
        expect(finding, `${name}: ${JSON.stringify(found)}`).toBeDefined();
        expect(finding?.remedy).toBeTruthy();
      }
      const people = await command(['doctor']);
      expect(people.text).toMatch(/FAIL {2}stranger/);
      expect(people.text).toMatch(/→ select pg_terminate_backend/);
    } finally {
      await admin.configSet('maxmemory-policy', 'noeviction');
      await admin.close();
      await foreign.end();
      await stack.sql.query('alter table public.sessions enable trigger all');
      await stack.sql.query('select cache_invalidation.refresh()');
      await stack.sql.query('drop role lock_holder');
      await stack.sql.query('delete from cache_invalidation.changes');
    }
  });

  it('finds a pooler in transaction mode by its behaviour, whatever its port; the worker refuses it too', async () => {
    const pgbouncer = await ensureCommand('pgbouncer', 'pgbouncer');
    const folder = mkdtempSync(join(tmpdir(), 'fencepost-pgbouncer-'));
    chmodSync(folder, 0o755);
    const { hostname, port: upstream, pathname, password } = new URL(stack.databaseUrl);
    const settings = join(folder, 'pgbouncer.ini');
    const { port, pooler } = await onFreePort({}, async (free) => {
      writeFileSync(
        settings,
        `[databases]\n${pathname.slice(1)} = host=${hostname} port=${upstream} user=postgres password=${password}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=${free}\nunix_socket_dir=\nauth_type=any\npool_mode=transaction\nignore_startup_parameters=extra_float_digits\n`,
        { mode: 0o644 },
      );
      const parameters = [...(process.getuid?.() === 0 ? ['-u', 'nobody'] : []), settings];
      const isUp = (line: string) => line.includes('process up');
      return {
        port: free,
        pooler: await startProcess({
          name: 'PgBouncer',
          file: pgbouncer,
          arguments: parameters,
          ready: isUp,
        }),
      };
    });
    try {
      const url = new URL(stack.databaseUrl);
      url.port = String(port);
      url.password = '';
      const { code, json } = await command(['doctor', '--json'], { DATABASE_URL: url.href });
      expect(code).toBe(1);
      expect(JSON.stringify(json<Doctor>().findings)).toContain('pooler in transaction mode');
      const worker = startWorkerProcess(stack.environment({ DATABASE_URL: url.href }));
      expect(await worker.exited).toBe(78);
      expect(worker.lines.some((line) => line.code === 'TRANSACTION_POOLER')).toBe(true);
    } finally {
      await pooler.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('invalidate, status, retry, audit', () => {
  it('invalidates by hand and waits for the confirmation', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    await stack.fences.arm(['fence:session:by-hand', 'session:by-hand:state', 'fence:quota:by-hand']);
    const { code, json } = await command([
      'invalidate',
      'session:by-hand:state',
      'quota:by-hand:*',
      '--json',
    ]);
    expect(code).toBe(0);
    expect(json()).toMatchObject({
      applied: true,
      targets: [
        { target: 'session:by-hand:state', state: 'invalidated' },
        { target: 'quota:by-hand:*', state: 'invalidated' },
      ],
    });
    await stack.fences.deleted(['fence:session:by-hand', 'session:by-hand:state', 'fence:quota:by-hand']);
  });

  it('never says invalidated of what the queue has, or of what Redis refused', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    const admin = createClient({ url: stack.redis.url });
    await admin.connect();
    // Redis lets nobody look for keys, and nobody delete those of one type.
    const rules = ['-scan', 'resetkeys', '~quota:*', '~fence:quota*', '~fencepost:*'];
    await admin.sendCommand(['ACL', 'SETUSER', 'default', ...rules]);
    try {
      const sweep = await command(['invalidate', 'quota:*:openai:*', 'quota:by-hand:*']);
      expect(sweep.code).toBe(75);
      expect(sweep.text).toMatch(/queued {2}quota:\*:openai:\*: .* handed to the queue for a sweep/);
      expect(sweep.text).toMatch(/invalidated {2}quota:by-hand:\*/);
      const refused = await command(['invalidate', 'cost:openai:gpt-5', '--json']);
      expect(refused.code).toBe(77);
      expect(refused.json()).toMatchObject({
        applied: false,
        targets: [{ target: 'cost:openai:gpt-5', state: 'refused', reason: expect.stringContaining('ACL') }],
      });
    } finally {
      await admin.sendCommand(['ACL', 'SETUSER', 'default', '+@all', '~*']);
      await admin.close();
      // Nothing of this is left for the next test.
      await stack.sql.query(
        'delete from cache_invalidation.pending; delete from cache_invalidation_queue.job',
      );
    }
  });

  it.each(['', 'x'.repeat(8_193), 'a:'.repeat(32)])(
    'takes no target that is none, nor one of 33 segments',
    async (target) => {
      const { code, errors } = await command(['invalidate', target]);
      expect(code).toBe(64);
      expect(errors).toContain('at most 8192 bytes and 32 segments');
    },
  );

  it.each(['fence:x', 'fence', 'fencepost:heartbeat'])(
    'takes no target of the cache’s own: %s',
    async (target) => {
      const { code, errors } = await command(['invalidate', 'quota:by-hand:*', target]);
      expect(code).toBe(64);
      expect(errors).toContain(`The type of ${target} is reserved`);
    },
  );

  it('says so when no worker is there, and keeps it', async () => {
    const { code, text } = await command(['invalidate', 'quota:patient:*']);
    expect(code).toBe(69);
    expect(text).toContain('kept in the outbox');
    await stack.fences.arm(['fence:quota:patient']);
    startWorkerProcess(stack.environment());
    await stack.fences.deleted(['fence:quota:patient']);
  });

  it('shows a status that a program can read', async () => {
    const worker = startWorkerProcess(stack.environment());
    await ready(worker);
    const { code, json } = await command(['status', '--json']);
    expect(code).toBe(0);
    expect(json()).toMatchObject({
      workers: 1,
      outbox: { rows: 0 },
      heartbeat: 'alive',
      queue: { failed: 0 },
      problems: [],
    });
  });

  it('retry finds no dead letters where there are none', async () => {
    const { code, json } = await command(['retry', '--json']);
    expect(code).toBe(0);
    expect(json()).toEqual({ retried: 0, first: [] });
  });

  it('an audit finds the one stale answer, after its trigger was switched off', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    const fences = ['fence:quota:fresh', 'fence:quota:stale'];
    await stack.fences.arm(fences);
    await stack.sql.query(
      "insert into public.quotas (org_id, provider, model, token_limit) values ('fresh', 'openai', 'm', 10), ('stale', 'openai', 'm', 10)",
    );
    await stack.fences.deleted(fences);
    // Ready: its heartbeat stands as well, and outlives it by a minute. An invalidation may be repeated at any time, so
    // the worker ends before there is anything cached: from here on only this test touches rows and entries.
    await ready(worker);
    worker.signal('SIGTERM');
    expect(await worker.exited).toBe(0);

    const cache = stack.reader();
    const load = async (org: string) => {
      const { rows } = await stack.sql.query<{ value: unknown }>(
        "select public.quota_answer($1, 'openai', 'm') -> 'value' as value",
        [org],
      );
      return rows[0]?.value ?? null;
    };
    await cache.getOrSet('quota:fresh:openai:m', () => load('fresh'));
    await cache.getOrSet('quota:stale:openai:m', () => load('stale'));
    const sound = await command(['audit', '--json']);
    expect(sound.code).toBe(0);
    expect(sound.json<{ compared: number }>().compared).toBeGreaterThanOrEqual(2);

    await stack.sql.query('alter table public.quotas disable trigger all');
    await stack.sql.query("update public.quotas set token_limit = 11 where org_id = 'stale'");
    expect((await stack.sql.query('select target from cache_invalidation.outbox')).rows).toEqual([]);
    await stack.sql.query('alter table public.quotas enable trigger all');
    await stack.sql.query('select cache_invalidation.refresh()');
    const { code, json } = await command(['audit', '--json']);
    expect(json()).toMatchObject({ stale: ['quota:stale:openai:m'] });
    expect(code).toBe(1);

    // A key that no row can have says nothing of the others.
    for (const key of ['usage:org-acme:2026-13-45:x', 'user:100%:prefs'])
      await cache.getOrSet(key, async () => ({ requests: 1 }));
    const odd = await command(['audit', '--json']);
    expect(odd.errors).toBe('');
    expect(odd.json()).toMatchObject({
      stale: ['quota:stale:openai:m'],
      skipped: { 'usage:org-acme:2026-13-45:x': expect.stringContaining('no such value') },
    });
  });

  it('a reader that closes the output early is no failure', async () => {
    const process = startWorkerProcess(stack.environment(), ['status']);
    // As `head` does: the pipe is closed before anything was written to it.
    process.child.stdout?.destroy();
    expect(await process.exited).toBe(0);
    expect(process.stderr()).toBe('');
  });

  it.each([
    [['nonsense'], 64],
    [['audit', '--sample', '0'], 64],
    [['explain'], 64],
    [['--help'], 0],
    [['explain', '--help'], 0],
    [['--version'], 0],
  ] as const)('%j ends with %i', async (parameters, expected) => {
    expect((await command(parameters)).code).toBe(expected);
  });
});
