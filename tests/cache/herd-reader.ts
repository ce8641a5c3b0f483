/**
 * One process of a herd: says "ready", waits for a line on standard input, then reads one key twenty times at once through
 * its own cache and prints what it got and what the cache logged. herd.test.ts starts
 * ten of these.
 */
import { once } from 'node:events';
import { createCache } from '../../supabase/functions/_shared/cache.ts';

const [url = '', token = '', loaderUrl = '', key = '', lease = ''] = process.argv.slice(2);
const lines: string[] = [];
// A machine that runs other tests at the same time is slow, not away.
const cache = createCache({
  url,
  token,
  timeout: 5_000,
  lease: Number(lease),
  log: (line) => lines.push(line),
});

// The first request of a process pays for loading the HTTP client; a herd is about requests that come together.
await cache.ping();
process.stdout.write('ready\n');
await once(process.stdin, 'data');

const read = () => cache.getOrSet(key, async () => (await fetch(loaderUrl, { method: 'POST' })).text());
const values = await Promise.all(Array.from({ length: 20 }, read));
process.stdout.write(`${JSON.stringify({ values, lines })}\n`);
process.exit(0);
