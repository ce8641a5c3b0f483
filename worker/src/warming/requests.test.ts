import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { request, sendAll } from './requests.ts';
import { conclude, type Outcome } from './results.ts';

vi.mock('node:timers/promises', () => ({ setTimeout: vi.fn(async () => undefined) }));

const servers: ReturnType<typeof createServer>[] = [];
afterEach(() => {
  vi.mocked(pause).mockClear();
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});

/** What a request comes to that is answered so. */
async function outcomeOf(answer: (response: ServerResponse) => void): Promise<Outcome> {
  const server = createServer((_, response) => answer(response)).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return await request(url, undefined, 5_000, new AbortController().signal);
}

describe('an answer', () => {
  it.each([
    [200, 'MISS', { origin: 'MISS', absent: false }],
    [200, 'HIT', { origin: 'HIT', absent: false }],
    [200, 'STALE', { origin: 'STALE', absent: false }],
    [204, null, { origin: 'other', absent: false }],
    [200, 'Hit from cloudfront', { origin: 'other', absent: false }],
    [404, 'MISS', { origin: 'MISS', absent: true }],
    [404, null, { failure: 'HTTP 404' }],
    [200, 'BYPASS', { failure: 'x-cache: BYPASS' }],
    [404, 'BYPASS', { failure: 'x-cache: BYPASS' }],
    [401, null, { failure: 'HTTP 401' }],
    [302, 'HIT', { failure: 'HTTP 302' }],
    [500, 'MISS', { failure: 'HTTP 500' }],
  ])('of %i with x-cache %s', async (status, cache, expected) => {
    const outcome = outcomeOf((response) =>
      response.writeHead(status, cache ? { 'x-cache': cache } : {}).end(),
    );
    expect(await outcome).toEqual(expected);
  });
});

describe('the pauses', () => {
  it.each([
    [null, [1_000, 2_000]],
    ['', [1_000, 2_000]],
    ['soon', [1_000, 2_000]],
    ['0', [0, 0]],
    ['7', [7_000, 7_000]],
    [' 7 ', [7_000, 7_000]],
    ['31', []],
  ])('with retry-after %s', async (header, expected) => {
    await outcomeOf((response) =>
      response.writeHead(503, header === null ? {} : { 'retry-after': header }).end(),
    );
    expect(vi.mocked(pause).mock.calls.map(([ms]) => ms)).toEqual(expected);
  });

  it('with a date in retry-after', async () => {
    const pausesUntil = async (date: number) => {
      await outcomeOf((response) =>
        response.writeHead(503, { 'retry-after': new Date(date).toUTCString() }).end(),
      );
      return vi
        .mocked(pause)
        .mock.calls.splice(0)
        .map(([ms = 0]) => ms);
    };
    const pauses = await pausesUntil(Date.now() + 20_000);
    expect(pauses).toHaveLength(2);
    for (const ms of pauses) expect(Math.abs(ms - 18_000)).toBeLessThanOrEqual(2_000);
    for (const ms of await pausesUntil(0)) expect(ms).toBeLessThanOrEqual(0);
    expect(await pausesUntil(Date.now() + 60_000)).toEqual([]);
  });
});

describe('sendAll', () => {
  const HIT: Outcome = { origin: 'HIT', absent: false };
  const names = Array.from({ length: 20 }, (_, index) => `a${index}`);
  const addresses = new Map(names.map((name) => [name, `shown ${name}`]));

  /** Lets everything run that needs nothing from outside. */
  const turn = () => new Promise((resolve) => setImmediate(resolve));

  it('has as many requests open as it may, never more, and sends one to each address', async () => {
    const open: (() => void)[] = [];
    const sent: string[] = [];
    const sending = sendAll(addresses, 3, (address) => {
      sent.push(address);
      return new Promise((resolve) => open.push(() => resolve(HIT)));
    });
    for (let left = names.length; left > 0; left--) {
      await turn();
      expect(open).toHaveLength(Math.min(3, left));
      open.shift()?.();
    }
    expect(conclude(await sending).counts.answered).toBe(20);
    expect(sent).toEqual(names);
  });

  it('interrupts what is open when it stops, and counts none of it', async () => {
    let interrupted = 0;
    const outcomes = await sendAll(addresses, 2, (address, stop) =>
      address === 'a0'
        ? new Promise((resolve) => {
            stop.addEventListener('abort', () => {
              interrupted += 1;
              resolve({ failure: 'AbortError' });
            });
          })
        : Promise.resolve({ failure: 'HTTP 401' }),
    );
    expect(conclude(outcomes).counts).toMatchObject({ asked: 10, failed: { 'HTTP 401': 10 } });
    expect(interrupted).toBe(1);
  });

  it('passes on what is no outcome', async () => {
    const broken = sendAll(addresses, 2, () => Promise.reject(new Error('a defect')));
    await expect(broken).rejects.toThrow('a defect');
  });
});
