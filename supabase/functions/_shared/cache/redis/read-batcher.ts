/**
 * Combines reads that are asked for in one turn of the event loop into one MGET: fifty concurrent getOrSet calls cost one
 * command.
 *
 * Nobody waits for a batch, because it is sent as soon as control returns to the event loop. It is sent after each of its
 * callers has begun, so it counts as each caller's own read (docs/protocol.md#fences). A read that was already sent is never
 * joined: its reply may be older than the caller.
 */

/** A request has to stay far below Upstash's 10 MB. */
const MOST_NAMES = 1_000;

type Read = (keys: readonly string[]) => Promise<(string | null)[] | null>;

interface Batch {
  readonly places: Map<string, number>;
  readonly values: Promise<(string | null)[] | null>;
}

/** @returns the same read, in batches */
export function batchReads(read: Read): Read {
  let open: Batch | null = null;

  const send = async (places: Batch['places']): Promise<(string | null)[] | null> => {
    // What follows runs after all synchronous calls, and after the continuations of promises that are settled already.
    await null;
    if (open?.places === places) open = null;
    return await read([...places.keys()]);
  };

  const newBatch = (): Batch => {
    const places = new Map<string, number>();
    return { places, values: send(places) };
  };

  return async (keys) => {
    if (open === null || open.places.size + keys.length > MOST_NAMES) open = newBatch();
    const { places, values } = open;
    for (const key of keys) if (!places.has(key)) places.set(key, places.size);
    const all = await values;
    return all === null ? null : keys.map((key) => all[places.get(key) ?? -1] ?? null);
  };
}
