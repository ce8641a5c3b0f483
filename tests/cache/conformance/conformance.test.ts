/**
 * The same checks under Node and under Deno, against every Redis-like server that this machine has: redis-server, which is
 * installed when it is missing, and valkey-server where there is one.
 */
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GatewayPart } from '../../../local/gateway/gateway.ts';
import { startHttp } from '../../../local/parts/http.ts';
import type { Part } from '../../../local/parts/part.ts';
import { findCommand } from '../../../local/system-packages.ts';
import { useUpstash } from '../../support/upstash.ts';
import { checks } from './checks.ts';
import { type Addresses, Support } from './support.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const servers = ['redis-server'];
if ((await findCommand(['valkey-server'])) !== undefined) servers.push('valkey-server');

describe.each(servers)('the cache module on %s', (server) => {
  // Without a name of its own it is whichever of the two the machine has.
  const upstash = useUpstash(server === 'redis-server' ? {} : { redis: { programs: [server] } });
  let counts: Part & { url: string };
  let addresses: Addresses = { url: '', token: '', countsUrl: '' };

  beforeAll(async () => {
    const { gateway } = upstash;
    counts = await countsOf(gateway);
    addresses = { url: gateway.url, token: gateway.token, countsUrl: counts.url };
  });

  afterAll(() => counts?.stop());

  describe('under Node', () => {
    it.each(checks.map(({ name, run }) => [name, run] as const))('%s', async (_, run) => {
      await run(new Support(addresses));
    });
  });

  it('under Deno', async () => {
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

function denoBinary(): string {
  return join(dirname(createRequire(import.meta.url).resolve('deno/package.json')), 'deno');
}
