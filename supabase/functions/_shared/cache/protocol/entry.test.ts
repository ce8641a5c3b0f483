import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readEnvelope, writeEnvelope } from './entry.ts';

const stamp = { fences: ['f1', 'f2'], epoch: 'e1', loadedAt: 1_793_527_200_000 };

describe('the envelope', () => {
  it('gives back any JSON value with its version stamp', { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), fc.option(fc.nat()), (value, staleAt) => {
        // JSON itself turns -0 into 0, which no reader can tell apart without Object.is.
        const expected: unknown = JSON.parse(JSON.stringify(value));
        expect(readEnvelope(writeEnvelope(stamp, value, staleAt))).toEqual({
          ...stamp,
          staleAt,
          freshUntil: staleAt,
          degradedMs: 30_000,
          dependencies: [],
          serializer: null,
          value: expected,
        });
      }),
    );
  });

  it('carries how old it may be without a worker, and no byte for the usual 30 s', () => {
    expect(readEnvelope(writeEnvelope(stamp, 1, null, 0))?.degradedMs).toBe(0);
    expect(readEnvelope(writeEnvelope(stamp, 1, 5, 2_000))).toMatchObject({ degradedMs: 2_000, staleAt: 5 });
    expect(writeEnvelope(stamp, 1, null, 30_000)).not.toContain('"g"');
  });

  it('names what it depends on, and has no byte for nothing', () => {
    const text = writeEnvelope(stamp, 1, null, 30_000, ['fence:user', 'fence:user:7']);
    expect(readEnvelope(text)?.dependencies).toEqual(['fence:user', 'fence:user:7']);
    expect(text).toContain('"x":["user","user:7"]');
    expect(writeEnvelope(stamp, 1, null)).not.toContain('"x"');
  });

  it('says what a serializer wrote, in a format that others take for none of theirs', () => {
    const text = writeEnvelope(stamp, '"text"', null, 30_000, [], 'superjson');
    expect(text).toContain('"v":2');
    expect(readEnvelope(text)).toMatchObject({ serializer: 'superjson', value: '"text"' });
  });

  it('says once until when it is fresh', () => {
    const until = stamp.loadedAt + 300_000;
    const text = writeEnvelope(stamp, 1, null, 30_000, [], null, until);
    expect(text).toContain('"l":300000');
    expect(readEnvelope(text)).toMatchObject({ staleAt: null, freshUntil: until });
    const window = writeEnvelope(stamp, 1, until, 30_000, [], null, until);
    expect(window).not.toContain('"l"');
    expect(readEnvelope(window)).toMatchObject({ staleAt: until, freshUntil: until });
    expect(readEnvelope(writeEnvelope(stamp, 1, null))?.freshUntil).toBeNull();
  });

  it('tells null from absence', () => {
    expect(readEnvelope(writeEnvelope(stamp, null, null))?.value).toBeNull();
    expect(readEnvelope(writeEnvelope(stamp, undefined, null))?.value).toBeUndefined();
  });

  it.each([
    '',
    'null',
    '"null"',
    '123',
    '{}',
    '[]',
    '{"v":3,"f":[],"e":null,"t":1}',
    '{"v":1,"f":[1],"e":null,"t":1}',
    '{"v":1,"f":["a"],"e":3,"t":1}',
    '{"v":1,"f":["a"],"e":null}',
    '{"v":1,"f":["a"],"e":null,"t":1,"s":"x"}',
    '{"v":1,"f":["a"],"e":null,"t":1,"g":"x"}',
    '{"v":1,"f":["a"],"e":null,"t":1,"l":"x"}',
    '{"v":2,"f":["a"],"e":null,"t":1,"d":"x"}',
    '{"v":1,"f":["a"],"e":null,"t":1,"x":"user"}',
    '{"v":1,"f":["a"],"e":null,"t":1,"x":[7]}',
    '{"v":1,',
  ])('takes %j for none of ours', (text) => {
    expect(readEnvelope(text)).toBeNull();
  });
});
