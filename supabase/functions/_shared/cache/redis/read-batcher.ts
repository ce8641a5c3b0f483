/**
 * Reads asked for in one go travel as one MGET: fifty concurrent getOrSet calls cost one command, not fifty.
 *
 * Only what is asked for before control returns to the event loop is put together, so nobody waits for it, and the MGET
 * is sent after every caller of it has begun: it is each caller's own read in the sense of rules 5 and 6. Reads that were
 * already sent are never joined: their reply may be older than the caller.
 */

/** Names in one MGET beyond which another is begun; a request has to stay far below Upstash's 10 MB. */
const MOST_NAMES = 1_000;

type Read = (keys: readonly string[]) => Promise<(string | null)[] | null>;

interface Batch {
  readonly places: Map<string, number>;
  readonly values: Promise<(string | null)[] | null>;
}

/** The same read, merged. */
export function mergeReads(read: Read): Read {
  let open: Batch | null = null;

  const newBatch = (): Batch => {
    const places = new Map<string, number>();
    const batch: Batch = {
      places,
      // The microtask runs after everything that is asked for synchronously, and after promises already settled.
      values: Promise.resolve().then(() => {
        if (open === batch) open = null;
        return read([...places.keys()]);
      }),
    };
    return batch;
  };

  return async (keys) => {
    if (open === null || open.places.size + keys.length > MOST_NAMES) open = newBatch();
    const { places, values } = open;
    for (const key of keys) if (!places.has(key)) places.set(key, places.size);
    const all = await values;
    return all === null ? null : keys.map((key) => all[places.get(key) ?? -1] ?? null);
  };
}
