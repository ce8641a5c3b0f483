/**
 * What a hit costs, beside a bare GET of the same value in the same run, and beside bentocache.
 *
 *     npm install --prefix bench/cache && npx tsx bench/cache/hit-latency.ts
 *
 * Redis and the gateway run in this process, the readers in another (hit-latency-reader.ts). That one is built as plain
 * JavaScript, because tsx adds a call to each closure that names it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import { startGateway } from '../../local/gateway/gateway.ts';
import { startRedis } from '../../local/parts/redis.ts';

const built = fileURLToPath(new URL('node_modules/.hit-latency-reader.mjs', import.meta.url));
buildSync({
  entryPoints: [fileURLToPath(new URL('hit-latency-reader.ts', import.meta.url))],
  outfile: built,
  bundle: true,
  packages: 'external',
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
});
const redis = await startRedis();
const gateway = await startGateway({ redisUrl: redis.url, token: 'bench-token' });
const reader = spawn(process.execPath, [built, gateway.url, gateway.token], { stdio: 'inherit' });
await once(reader, 'close');
rmSync(built);
await gateway.stop();
await redis.stop();
process.exit(0);
