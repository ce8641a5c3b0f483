import { describe, expect, it } from 'vitest';
import { statisticsKey, sumCommands, sumStatistics } from './statistics.ts';

const none = { hits: 0, stale: 0, misses: 0, loads: 0, errors: 0, hitMs: 0, loadMs: 0 };

describe('the statistics format', () => {
  it('names one hash an hour', () => {
    expect(statisticsKey(Date.UTC(2026, 10, 1, 10, 59, 0))).toBe('fencepost:stats:2026-11-01T10');
  });

  it('adds up over isolates, whatever else is in the hash', () => {
    const quota = { hits: 3, stale: 0, misses: 1, loads: 1, errors: 0, hitMs: 6, loadMs: 50 };
    const fields = [
      JSON.stringify({ quota }),
      JSON.stringify({ quota, cost: { hits: 1 } }),
      'garbage',
      '[]',
      '{"x":5}',
    ];
    expect(sumStatistics(fields)).toEqual(
      new Map([
        [
          'quota',
          { hits: 6, stale: 0, misses: 2, loads: 2, errors: 0, hitMs: 12, loadMs: 100, target: null },
        ],
        ['cost', { ...none, hits: 1, target: null }],
      ]),
    );
  });

  it('names the types that readers know, in their order, with the highest target that one of them gives', () => {
    const old = JSON.stringify({ cost: { hits: 2, misses: 1 } });
    const current = JSON.stringify({ prefs: {}, cost: { hits: 1, target: 0.9 } });
    const newer = JSON.stringify({ cost: { target: 0.95 }, odd: { target: 7 } });
    expect([...sumStatistics([current, newer, old])]).toEqual([
      ['prefs', { ...none, target: null }],
      ['cost', { ...none, hits: 3, misses: 1, target: 0.95 }],
      ['odd', { ...none, target: null }],
    ]);
  });

  it('adds up the commands of isolates and workers', () => {
    const odd = ['{"#commands":"9"}', 'null', '"text"', '{'];
    expect(sumCommands(['{"#commands":6}', '{"#worker":4}', ...odd])).toEqual({ readers: 6, worker: 4 });
    const impossible = ['{"#commands":-5}', '{"#commands":1e300}', '{"#worker":-1}'];
    expect(sumCommands(impossible)).toEqual({ readers: 0, worker: 0 });
  });
});
