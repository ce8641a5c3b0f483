/**
 * What an entry looks like in Redis: one JSON object, written once and never patched.
 *
 *   { "v": 1, "f": ["…", "…"], "e": "…"|null, "t": 1793527200000, "s": 1793530800000, "d": <value> }
 *
 *   v  format; another number is a miss, so that versions can live side by side during a deployment
 *   f  the fences the value was loaded under, in the order of Scopes.fences, and the epoch as the last
 *   e  that epoch again if a worker vouched for it; null when none did, and then it is never a hit once one does
 *   t  when its load began, milliseconds since 1970 by the loader's clock
 *   s  when it turns stale (fresh until then, kept longer for staleWhileRevalidate and staleIfError); absent: with its TTL
 *   d  the value; absent when the loader answered undefined, which is cached like null and told from a miss
 */
const FORMAT = 1;

/** What an entry was loaded under; taken before the load and never refreshed. */
export interface Stamp {
  readonly fences: readonly string[];
  readonly epoch: string | null;
  /** Milliseconds since 1970 at which the load began. */
  readonly loadedAt: number;
}

export interface Envelope extends Stamp {
  readonly staleAt: number | null;
  readonly value: unknown;
}

/** The text to store. @param value one in which `unsupportedIn` finds nothing */
export function writeEnvelope(stamp: Stamp, value: unknown, staleAt: number | null): string {
  const stale = staleAt === null ? '' : `,"s":${staleAt}`;
  const data = value === undefined ? '' : `,"d":${JSON.stringify(value)}`;
  const fences = JSON.stringify(stamp.fences);
  return `{"v":${FORMAT},"f":${fences},"e":${JSON.stringify(stamp.epoch)},"t":${stamp.loadedAt}${stale}${data}}`;
}

/** The entry behind a stored text, or null when the text is none of ours or of another format: then it is a miss. */
export function readEnvelope(text: string): Envelope | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof parsed !== 'object' || parsed === null || !('v' in parsed) || parsed.v !== FORMAT) return null;
  const { f, e, t, s, d } = parsed as { f?: unknown; e?: unknown; t?: unknown; s?: unknown; d?: unknown };
  if (!Array.isArray(f) || !f.every((fence) => typeof fence === 'string')) return null;
  if ((typeof e !== 'string' && e !== null) || typeof t !== 'number') return null;
  if (s !== undefined && typeof s !== 'number') return null;
  return { fences: f, epoch: e, loadedAt: t, staleAt: s ?? null, value: d };
}
