import { describe, expect, it } from 'vitest';
import { batchReads } from './read-batcher.ts';

function setUp() {
  const sent: string[][] = [];
  const read = batchReads(async (keys) => {
    sent.push([...keys]);
    return keys.map((key) => `value of ${key}`);
  });
  return { sent, read };
}

describe('the read batcher', () => {
  it('sends what is asked for together as one, each name once, and answers each in its own order', async () => {
    const { sent, read } = setUp();
    const [one, other] = await Promise.all([read(['a', 'b']), read(['b', 'c', 'a'])]);
    expect(sent).toEqual([['a', 'b', 'c']]);
    expect(one).toEqual(['value of a', 'value of b']);
    expect(other).toEqual(['value of b', 'value of c', 'value of a']);
  });

  it('never joins what was already sent', async () => {
    const { sent, read } = setUp();
    const first = read(['a']);
    await Promise.resolve();
    await Promise.resolve();
    expect(sent).toEqual([['a']]);
    await Promise.all([first, read(['a'])]);
    expect(sent).toEqual([['a'], ['a']]);
  });

  it('begins another request rather than exceed its size', async () => {
    const { sent, read } = setUp();
    const names = (prefix: string) => Array.from({ length: 600 }, (_, index) => `${prefix}${index}`);
    const [one, other] = await Promise.all([read(names('a')), read(names('b'))]);
    expect(sent.map((keys) => keys.length)).toEqual([600, 600]);
    expect([one?.[599], other?.[599]]).toEqual(['value of a599', 'value of b599']);
  });

  it('tells everybody when Redis is away', async () => {
    const read = batchReads(async () => null);
    expect(await Promise.all([read(['a']), read(['b'])])).toEqual([null, null]);
  });
});
