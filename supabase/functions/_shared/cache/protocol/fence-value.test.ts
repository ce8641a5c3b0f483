import { describe, expect, it } from 'vitest';
import { fenceSeconds, fenceTimes, fenceValue } from './fence-value.ts';

const NOW = 1_793_527_200_500;

describe('the value of a fence', () => {
  it('says when it was made and for how long', () => {
    expect(fenceValue('random', NOW, 600)).toBe('random.1793527200.600');
    expect(fenceTimes(fenceValue('random', NOW, 600))).toEqual({ madeAt: 1_793_527_200, seconds: 600 });
    expect(fenceTimes(fenceValue('random', NOW, null))).toEqual({ madeAt: 1_793_527_200, seconds: null });
  });

  it.each(['', 'a-former-fence', 'a.b.c', 'a.1', 'a.-1.5', 'a.1.5x'])('says nothing in %j', (value) => {
    expect(fenceTimes(value)).toBeNull();
  });

  it.each([
    [0, 600],
    [75_000, 600],
    [76_000, 608],
    [300_000, 2_400],
    [5 * 86_400_000, 30 * 86_400],
    [60 * 86_400_000, 66 * 86_400],
  ])('lives eight times an entry of %d ms, within limits: %d s', (longestMs, seconds) => {
    expect(fenceSeconds(longestMs)).toBe(seconds);
  });
});
