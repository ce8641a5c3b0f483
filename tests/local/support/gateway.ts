/** The gateway in front of a Redis that is emptied before each test; the real client, and plain HTTP where the client never goes. */
import { Redis } from '@upstash/redis';
import { createClient } from 'redis';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import type { GatewayPart } from '../../../local/gateway/gateway.ts';
import { useUpstash } from '../../support/upstash.ts';

export const TOKEN = 'a-token/with+odd=characters';
/** Bytes of a request. */
export const LIMIT = 64 * 1024;

export let gateway: GatewayPart;
/** Past the gateway. */
export let direct: ReturnType<typeof createClient>;

/** Registers the hooks of one test file. A call, since the files of a process share this module. */
export function useGateway(): void {
  const upstash = useUpstash({ gateway: { token: TOKEN, maxRequestBytes: LIMIT } });

  beforeAll(async () => {
    gateway = upstash.gateway;
    direct = createClient({ url: upstash.redis.url, RESP: 2 });
    await direct.connect();
  });

  afterAll(() => direct?.destroy());

  beforeEach(async () => {
    await direct.sendCommand(['FLUSHALL']);
  });
}

export function connect(encoding: 'base64' | false, token = TOKEN): Redis {
  return new Redis({
    url: gateway.url,
    token,
    responseEncoding: encoding,
    automaticDeserialization: false,
    enableTelemetry: false,
    retry: false,
  });
}

interface RestOptions {
  readonly method?: string;
  readonly body?: string | Buffer<ArrayBuffer>;
  readonly encoding?: 'base64';
  readonly authorization?: string;
}

export async function rest(
  path: string,
  options: RestOptions = {},
): Promise<{ status: number; body: unknown }> {
  const { authorization = `Bearer ${TOKEN}`, body, encoding } = options;
  const response = await fetch(`${gateway.url}${path}`, {
    method: options.method ?? (body === undefined ? 'GET' : 'POST'),
    headers: {
      ...(authorization === '' ? {} : { authorization }),
      ...(encoding === undefined ? {} : { 'upstash-encoding': encoding }),
    },
    ...(body === undefined ? {} : { body }),
  });
  return { status: response.status, body: await response.json() };
}
