import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { sha256 } from './sha256.ts';

it('is the SHA-256 of every length around a block, and of random bytes', () => {
  for (let length = 0; length < 400; length++) {
    const bytes = crypto.getRandomValues(new Uint8Array(length));
    expect(sha256(bytes)).toBe(createHash('sha256').update(bytes).digest('hex'));
  }
  const large = crypto.getRandomValues(new Uint8Array(60_000));
  expect(sha256(large)).toBe(createHash('sha256').update(large).digest('hex'));
});
