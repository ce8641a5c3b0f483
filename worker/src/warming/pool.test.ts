import { expect, it } from 'vitest';
import { askAll } from './pool.ts';
import type { Outcome } from './results.ts';

const HIT: Outcome = { origin: 'HIT', absent: false };
const addresses = Array.from({ length: 20 }, (_, index) => `a${index}`);

/** Lets everything run that needs nothing from outside. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

it('has as many questions open as it may, never more, and asks each address once', async () => {
  const open: (() => void)[] = [];
  const asked: string[] = [];
  const round = askAll(
    addresses,
    3,
    (address) => {
      asked.push(address);
      return new Promise((resolve) => open.push(() => resolve(HIT)));
    },
    String,
  );
  for (let left = addresses.length; left > 0; left--) {
    await turn();
    expect(open).toHaveLength(Math.min(3, left));
    open.shift()?.();
  }
  expect((await round).answered).toBe(20);
  expect(asked).toEqual(addresses);
});

it('interrupts what is open when it is hopeless, and counts none of it', async () => {
  let interrupted = 0;
  const tally = await askAll(
    addresses,
    2,
    (address, signal) =>
      address === 'a0'
        ? new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              interrupted += 1;
              reject(signal.reason);
            });
          })
        : Promise.resolve({ failure: 'HTTP 401' }),
    String,
  );
  expect(tally).toMatchObject({ asked: 10, hopeless: 'HTTP 401' });
  expect(interrupted).toBe(1);
});

it('passes on what is no outcome', async () => {
  const broken = askAll(addresses, 2, () => Promise.reject(new Error('a defect')), String);
  await expect(broken).rejects.toThrow('a defect');
});
