/** What the buffer keeps, and what it leaves to the outbox; the queue answers when the test lets it. */
import { describe, expect, it, vi } from 'vitest';
import type { WorkerError } from '../lib/errors.ts';
import { QueueBuffer, type QueueRequest } from './buffer.ts';
import type { JobRequest } from './jobs.ts';

const turn = async () => {
  for (let count = 0; count < 20; count++) await Promise.resolve();
};

function createBuffer(charactersMost?: number) {
  const calls: { jobs: readonly JobRequest[]; answer(): void; fail(): void }[] = [];
  const acknowledged: string[] = [];
  const troubles: WorkerError[] = [];
  let missed = 0;
  const queueBuffer = new QueueBuffer(
    {
      add: (jobs) =>
        new Promise((resolve, reject) => {
          calls.push({ jobs, answer: resolve, fail: () => reject(new Error('away')) });
        }),
      acknowledge: async ({ ids }) => {
        acknowledged.push(ids);
      },
      onMissed: () => {
        missed++;
      },
      onError: (error) => troubles.push(error),
    },
    charactersMost,
  );
  const call = async (number: number) => {
    await vi.waitFor(() => expect(calls.length).toBeGreaterThan(number), { interval: 1 });
    const found = calls[number];
    if (found === undefined) throw new Error('no such call');
    return found;
  };
  return { queueBuffer, calls, call, acknowledged, troubles, missed: () => missed };
}

const sweepOf = (id: number): QueueRequest => ({
  xids: `{${id}}`,
  ids: `{${id}}`,
  rows: 1,
  throttled: false,
  jobs: [{ kind: 'sweep', pattern: `a:*:${id}` }],
});

describe('QueueBuffer', () => {
  it('acknowledges rows only when the queue has their jobs, many with one call', async () => {
    const { queueBuffer, calls, call, acknowledged } = createBuffer();
    queueBuffer.take(sweepOf(1));
    queueBuffer.take(sweepOf(2));
    const first = await call(0);
    queueBuffer.take(sweepOf(3));
    expect(first.jobs).toHaveLength(2);
    expect(acknowledged).toEqual([]);
    first.answer();
    (await call(1)).answer();
    await turn();
    expect(acknowledged).toEqual(['{1,2}', '{3}']);
    expect(calls).toHaveLength(2);
    expect(queueBuffer.rows).toBe(0);
  });

  it('puts second deletes together, none earlier than asked', async () => {
    const { queueBuffer, call } = createBuffer();
    for (const [id, delayMs] of [
      [1, 50],
      [2, 70],
    ] as const)
      queueBuffer.take({
        ...sweepOf(id),
        jobs: [{ kind: 'second-delete', targets: ['q:1', `q:${id}`], delayMs }],
      });
    expect((await call(0)).jobs).toEqual([{ kind: 'second-delete', targets: ['q:1', 'q:2'], delayMs: 70 }]);
  });

  it('keeps rows of a call that failed, tries again by itself, and holds nobody up meanwhile', async () => {
    const { queueBuffer, call, acknowledged, troubles } = createBuffer();
    queueBuffer.take(sweepOf(1));
    (await call(0)).fail();
    await turn();
    expect(queueBuffer.failing).toBe(true);
    expect(queueBuffer.failure).toBe(troubles[0]);
    expect(queueBuffer.rows).toBe(1);
    expect(troubles).toHaveLength(1);
    await queueBuffer.room();
    (await call(1)).answer();
    await turn();
    expect(acknowledged).toEqual(['{1}']);
    expect(queueBuffer.failing).toBe(false);
    queueBuffer.stop();
  });

  it('leaves to the outbox what there is no room for, and has it handed out again when the rest is done', async () => {
    const { queueBuffer, call, acknowledged, missed } = createBuffer(100);
    for (let id = 1; id <= 9; id++) queueBuffer.take(sweepOf(id));
    expect(queueBuffer.rows).toBeLessThan(9);
    expect(queueBuffer.missed).toBe(true);
    expect(missed()).toBe(0);
    (await call(0)).answer();
    await turn();
    expect(missed()).toBe(1);
    expect(queueBuffer.missed).toBe(false);
    expect(acknowledged).toHaveLength(1);
  });

  it('waits for room while the queue works', async () => {
    const { queueBuffer, call } = createBuffer(60);
    queueBuffer.take(sweepOf(1));
    queueBuffer.take(sweepOf(2));
    let room = false;
    void queueBuffer.room().then(() => {
      room = true;
    });
    const first = await call(0);
    await turn();
    expect(room).toBe(false);
    first.answer();
    await turn();
    expect(room).toBe(true);
  });

  it('drops what it remembers with the position, and goes on with what comes then', async () => {
    const { queueBuffer, call, acknowledged } = createBuffer();
    queueBuffer.take(sweepOf(1));
    const first = await call(0);
    queueBuffer.forget();
    queueBuffer.take(sweepOf(2));
    first.answer();
    (await call(1)).answer();
    await turn();
    expect(acknowledged).toEqual(['{1}', '{2}']);
  });
});
