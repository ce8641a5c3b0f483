/** A refresh that hangs behind a stale answer does not keep a process from ending. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

it('ends with its last answer, though a refresh hangs', async () => {
  const module = new URL('../../supabase/functions/_shared/cache.ts', import.meta.url).href;
  const program = `
    const { createCache } = await import(${JSON.stringify(module)});
    // All fences exist, and the entry turned stale a moment after 1970.
    const entry = JSON.stringify({ v: 1, f: ['r', 'r', 'r'], e: 'r', t: Date.now(), s: Date.now() - 1, d: 'old' });
    const getMany = async (names) => names.map((name) => (/lease/.test(name) ? null : /^fence/.test(name) ? 'r' : entry));
    const connection = {
      getMany,
      write: async (writes) => writes.map(({ op }) => (op === 'create' ? null : 'OK')),
      writeThenRead: async (writes, names) => ({ replies: writes.map(() => 'OK'), values: await getMany(names) }),
      scan: async () => ({ cursor: '0', keys: [] }),
      health: async () => ({ keyCount: 0, heartbeat: 'r', epoch: 'r' }),
    };
    const cache = createCache({ connection, lease: 0 });
    let hangs;
    const hanging = new Promise((resolve) => { hangs = resolve; });
    const hang = () => { hangs(); return new Promise(() => {}); };
    console.log(await cache.getOrSet('a:1', hang, 1, { staleWhileRevalidate: 600 }));
    await hanging;`;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', program],
    // Less than the half minute after which a refresh is given up.
    { cwd: root, timeout: 20_000 },
  );
  expect(stdout).toBe('old\n');
});
