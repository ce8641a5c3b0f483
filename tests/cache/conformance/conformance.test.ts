/**
 * The same checks under Node and under Deno, against every Redis-like server that this machine has: redis-server, which is
 * installed when it is missing, and valkey-server where there is one.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GatewayPart, startGateway } from '../../../local/gateway/gateway.ts';
import { startHttp } from '../../../local/parts/http.ts';
import type { Part } from '../../../local/parts/part.ts';
import { startProcess } from '../../../local/parts/process.ts';
import { startRedis } from '../../../local/parts/redis.ts';
import { checks } from './checks.ts';
import { type Addresses, Support } from './support.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const servers = ['redis-server', ...onPath('valkey-server')];

describe.each(servers)('the cache module on %s', (server) => {
  const parts: Part[] = [];
  let addresses: Addresses = { url: '', token: '', countsUrl: '' };

  beforeAll(async () => {
    const redis = await (server === 'redis-server' ? startRedis() : startValkey());
    parts.push(redis);
    const gateway = await startGateway({ redisUrl: redis.url, token: 'conformance-token' });
    parts.push(gateway);
    const counts = await countsOf(gateway);
    parts.push(counts);
    addresses = { url: gateway.url, token: gateway.token, countsUrl: counts.url };
  });

  afterAll(async () => {
    for (const part of parts.toReversed()) await part.stop();
  });

  describe('under Node', () => {
    it.each(checks.map(({ name, run }) => [name, run] as const))('%s', async (_, run) => {
      await run(new Support(addresses));
    });
  });

  it('under Deno', { timeout: 120_000 }, async () => {
    const { stdout } = await promisify(execFile)(
      denoBinary(),
      [
        ...['test', '--no-check', '--no-remote', '--node-modules-dir=manual', '--no-lock'],
        ...['--allow-net', '--allow-env', '--allow-read', '--allow-sys'],
        join(root, 'tests/cache/conformance/conformance.deno.ts'),
      ],
      {
        cwd: root,
        env: {
          ...process.env,
          FENCEPOST_CONFORMANCE: JSON.stringify(addresses),
          NO_COLOR: '1',
          DENO_NO_UPDATE_CHECK: '1',
        },
      },
    ).catch((error: { stdout: string; stderr: string }) => {
      throw new Error(`${error.stdout}\n${error.stderr}`);
    });
    expect(stdout).toMatch(new RegExp(`${checks.length + 1} passed . 0 failed`));
  });
});

function countsOf(gateway: GatewayPart) {
  return startHttp({
    name: 'counts',
    listener: (_, outgoing) => {
      outgoing.end(JSON.stringify({ commands: gateway.commandCount(), requests: gateway.requestCount() }));
    },
  });
}

async function startValkey(): Promise<Part & { url: string }> {
  const port = 20_000 + Math.floor(Math.random() * 30_000);
  const server = await startProcess({
    name: 'Valkey',
    file: 'valkey-server',
    arguments: ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
    ready: (line) => line.includes('Ready to accept connections'),
    readyWithin: 10_000,
    endings: [['SIGTERM', 2_000]],
  });
  return { name: 'Valkey', url: `redis://127.0.0.1:${port}`, stop: () => server.stop() };
}

function onPath(command: string): string[] {
  const found = (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  return found ? [command] : [];
}

function denoBinary(): string {
  return join(dirname(createRequire(import.meta.url).resolve('deno/package.json')), 'deno');
}
