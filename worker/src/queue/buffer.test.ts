/** What the hand-over remembers, and what it leaves to the outbox; the queue answers when the test lets it. */
import { describe, expect, it, vi } from 'vitest';
import type { WorkerError } from '../lib/errors.ts';
import { HandOver, type Piece } from './buffer.ts';
import type { Errand } from './jobs.ts';

const turn = async () => {
  for (let count = 0; count < 20; count++) await Promise.resolve();
};

function stand(charactersMost?: number) {
  const calls: { errands: readonly Errand[]; answer(): void; fail(): void }[] = [];
  const acknowledged: string[] = [];
  const troubles: WorkerError[] = [];
  let missed = 0;
  const handOver = new HandOver(
    {
      add: (errands) =>
        new Promise((resolve, reject) => {
          calls.push({ errands, answer: resolve, fail: () => reject(new Error('away')) });
        }),
      acknowledge: async ({ ids }) => {
        acknowledged.push(ids);
      },
      onMissed: () => {
        missed++;
      },
      onTrouble: (error) => troubles.push(error),
    },
    charactersMost,
  );
  const call = async (number: number) => {
    await vi.waitFor(() => expect(calls.length).toBeGreaterThan(number), { interval: 1 });
    const found = calls[number];
    if (found === undefined) throw new Error('no such call');
    return found;
  };
  return { handOver, calls, call, acknowledged, troubles, missed: () => missed };
}

const sweepOf = (id: number): Piece => ({
  xids: `{${id}}`,
  ids: `{${id}}`,
  rows: 1,
  rests: false,
  errands: [{ kind: 'sweep', pattern: `a:*:${id}` }],
});

describe('HandOver', () => {
  it('acknowledges rows only when the queue has their errands, many with one call', async () => {
    const { handOver, calls, call, acknowledged } = stand();
    handOver.take(sweepOf(1));
    handOver.take(sweepOf(2));
    const first = await call(0);
    handOver.take(sweepOf(3));
    expect(first.errands).toHaveLength(2);
    expect(acknowledged).toEqual([]);
    first.answer();
    (await call(1)).answer();
    await turn();
    expect(acknowledged).toEqual(['{1,2}', '{3}']);
    expect(calls).toHaveLength(2);
    expect(handOver.rows).toBe(0);
  });

  it('puts second deletes together, none earlier than asked', async () => {
    const { handOver, call } = stand();
    for (const [id, delayMs] of [
      [1, 50],
      [2, 70],
    ] as const)
      handOver.take({
        ...sweepOf(id),
        errands: [{ kind: 'second-delete', targets: ['q:1', `q:${id}`], delayMs }],
      });
    expect((await call(0)).errands).toEqual([
      { kind: 'second-delete', targets: ['q:1', 'q:2'], delayMs: 70 },
    ]);
  });

  it('keeps rows of a call that failed, tries again by itself, and holds nobody up meanwhile', async () => {
    const { handOver, call, acknowledged, troubles } = stand();
    handOver.take(sweepOf(1));
    (await call(0)).fail();
    await turn();
    expect(handOver.failing).toBe(true);
    expect(handOver.rows).toBe(1);
    expect(troubles).toHaveLength(1);
    await handOver.room();
    (await call(1)).answer();
    await turn();
    expect(acknowledged).toEqual(['{1}']);
    expect(handOver.failing).toBe(false);
    handOver.stop();
  });

  it('leaves to the outbox what there is no room for, and has it handed out again when the rest is done', async () => {
    const { handOver, call, acknowledged, missed } = stand(100);
    for (let id = 1; id <= 9; id++) handOver.take(sweepOf(id));
    expect(handOver.rows).toBeLessThan(9);
    expect(handOver.missed).toBe(true);
    expect(missed()).toBe(0);
    (await call(0)).answer();
    await turn();
    expect(missed()).toBe(1);
    expect(handOver.missed).toBe(false);
    expect(acknowledged).toHaveLength(1);
  });

  it('waits for room while the queue works', async () => {
    const { handOver, call } = stand(60);
    handOver.take(sweepOf(1));
    handOver.take(sweepOf(2));
    let room = false;
    void handOver.room().then(() => {
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
    const { handOver, call, acknowledged } = stand();
    handOver.take(sweepOf(1));
    const first = await call(0);
    handOver.forget();
    handOver.take(sweepOf(2));
    first.answer();
    (await call(1)).answer();
    await turn();
    expect(acknowledged).toEqual(['{1}', '{2}']);
  });
});
