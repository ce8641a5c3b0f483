import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { transactionPoolerError } from '../db/errors.ts';
import { NotifyProbe } from './notify-probe.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A database whose notifications do not arrive, and what the probe says of it. */
function deaf(checkSessions: () => Promise<void> = async () => undefined) {
  const lost: string[] = [];
  const sent: string[] = [];
  const query = async (_sql: string, [, payload]: [string, string]) => {
    sent.push(payload);
  };
  const probe = new NotifyProbe({
    pool: { query } as never,
    checkSessions,
    onLost: ({ code }) => lost.push(code),
  });
  return { probe, lost, sent };
}

it('a notification that does not arrive was lost; a pooler is named only where one is found', async () => {
  const { probe, lost } = deaf();
  const running = probe.run();
  await vi.advanceTimersByTimeAsync(3_000);
  await running;
  expect(lost).toEqual(['NOTIFICATIONS_LOST']);
  const pooled = deaf(() => Promise.reject(transactionPoolerError()));
  const second = pooled.probe.run();
  await vi.advanceTimersByTimeAsync(3_000);
  await second;
  expect(pooled.lost).toEqual(['TRANSACTION_POOLER']);
});

it('one that arrives was not lost', async () => {
  const { probe, lost, sent } = deaf();
  const running = probe.run();
  await vi.advanceTimersByTimeAsync(100);
  probe.received(sent[0] ?? '');
  await vi.advanceTimersByTimeAsync(10_000);
  await running;
  expect(lost).toEqual([]);
});

it('a listening connection that ended meanwhile proves nothing, and the next one is probed at once', async () => {
  const { probe, lost, sent } = deaf();
  const first = probe.run();
  await vi.advanceTimersByTimeAsync(1_000);
  // Ended by an administrator, and made again.
  probe.listenerChanged();
  const second = probe.run();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(sent).toHaveLength(2);
  probe.received(sent[1] ?? '');
  await vi.advanceTimersByTimeAsync(10_000);
  await Promise.all([first, second]);
  expect(lost).toEqual([]);
});

it('a database that is away is not the network of notifications', async () => {
  const { probe, lost } = deaf(() => Promise.reject(new Error('away')));
  const running = probe.run();
  await vi.advanceTimersByTimeAsync(3_000);
  await running;
  expect(lost).toEqual([]);
});
