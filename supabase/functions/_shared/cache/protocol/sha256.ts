/**
 * SHA-256 (FIPS 180-4), for the segments of keys that are too long. The platforms have it too, but asynchronously or behind an import
 * that browsers and edge runtimes lack, and a key is built where nothing can wait.
 */

/** The first 32 bits of the fractional part. */
const fraction = (root: number): number => ((root % 1) * 2 ** 32) | 0;

const PRIMES: number[] = [];
for (let number = 2; PRIMES.length < 64; number++) {
  if (PRIMES.every((prime) => number % prime !== 0)) PRIMES.push(number);
}
const ROUNDS = PRIMES.map((prime) => fraction(Math.cbrt(prime)));
const START = PRIMES.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));

const rotate = (word: number, by: number): number => (word >>> by) | (word << (32 - by));

/** The digest in lower-case hexadecimal digits. */
export function sha256(bytes: Uint8Array): string {
  // The message, a one bit, zeros, and its length in bits as 64: whole blocks of 64 bytes.
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, (bytes.length * 8) % 2 ** 32);
  const hash = Int32Array.from(START);
  const words = new Int32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    for (let index = 0; index < 64; index++) {
      words[index] = index < 16 ? view.getInt32(block + index * 4) : scheduled(words, index);
    }
    addBlock(hash, words);
  }
  return [...hash].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

function scheduled(words: Int32Array, index: number): number {
  const at = (back: number): number => words[index - back] ?? 0;
  const small0 = rotate(at(15), 7) ^ rotate(at(15), 18) ^ (at(15) >>> 3);
  const small1 = rotate(at(2), 17) ^ rotate(at(2), 19) ^ (at(2) >>> 10);
  return at(16) + small0 + at(7) + small1;
}

function addBlock(hash: Int32Array, words: Int32Array): void {
  let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = hash;
  for (let index = 0; index < 64; index++) {
    const large1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const choice = (e & f) ^ (~e & g);
    const first = (h + large1 + choice + (ROUNDS[index] ?? 0) + (words[index] ?? 0)) | 0;
    const large0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + large0 + majority) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, index) => {
    hash[index] = (hash[index] ?? 0) + word;
  });
}
