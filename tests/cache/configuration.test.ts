/** A cache without a configuration, or with a wrong one, says why once, and every read is loaded. */
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { createCache } from '../../supabase/functions/_shared/cache.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

it.each([
  [{ url: '', token: 'SECRET' }, /set UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN/],
  [{ url: 'http://127.0.0.1:9', token: ' ' }, /set UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN/],
  [{ url: 'SECRET', token: 'SECRET' }, /UPSTASH_REDIS_REST_URL is not an address: expected https:/],
  [{ url: '"http://SECRET.example"', token: 'SECRET' }, /UPSTASH_REDIS_REST_URL stands in quotes/],
  [{ url: 'http://SECRET.example', token: "'SECRET'" }, /UPSTASH_REDIS_REST_TOKEN stands in quotes/],
  [{ url: 'http://SECRET.example', token: 'SEC RET' }, /UPSTASH_REDIS_REST_TOKEN holds characters/],
  [{ url: 'http://SECRET.example', token: 'SECRET', prefix: '"SECRET:"' }, /CACHE_PREFIX stands in quotes/],
])('is disabled with %j', async (options, reason) => {
  const lines: string[] = [];
  const cache = createCache({ ...options, log: (line) => lines.push(line) });
  expect(await cache.getOrSet('a:1', () => 'loaded')).toBe('loaded');
  expect((await cache.ping()).enabled).toBe(false);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(reason);
  expect(lines[0]).not.toMatch(/SECRET/);
});

it('names the permission that it lacks under Deno, and does not blame the URL', async () => {
  const module = new URL('../../supabase/functions/_shared/cache.ts', import.meta.url).href;
  const program = `
    const { createCache } = await import(${JSON.stringify(module)});
    const cache = createCache({ url: 'http://127.0.0.1:9', token: 't', log: (line) => console.log(line) });
    console.log(await cache.getOrSet('a:1', () => 'loaded'));`;
  const deno = join(dirname(createRequire(import.meta.url).resolve('deno/package.json')), 'deno');
  const flags = [
    '--no-remote',
    '--node-modules-dir=manual',
    '--no-lock',
    '--no-prompt',
    '--allow-net',
    '--allow-read',
  ];
  const source = `data:application/javascript,${encodeURIComponent(program)}`;
  const { stdout } = await promisify(execFile)(deno, ['run', '--no-check', ...flags, source], {
    cwd: root,
    env: { ...process.env, NO_COLOR: '1', DENO_NO_UPDATE_CHECK: '1' },
  });
  expect(stdout).toMatch(/disabled; @upstash\/redis may not read the environment; run Deno with --allow-env/);
  expect(stdout).toMatch(/loaded/);
});
