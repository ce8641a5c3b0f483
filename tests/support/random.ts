/** Random numbers that are the same for the same seed, so that a failure can be reproduced. */

/** From 0 on, below 1. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Integers from 0 on, below `most`. */
export function randomBelow(seed: number): (most: number) => number {
  const next = random(seed);
  return (most) => Math.floor(next() * most);
}
