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
import { CacheError } from './cache-error.ts';

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

/**
 * The text to store.
 * @throws CacheError UNSUPPORTED_VALUE when JSON would not give the value back as it is
 */
export function writeEnvelope(stamp: Stamp, value: unknown, staleAt: number | null): string {
  refuseUnsupported(value);
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

/**
 * Refuses what would come back from the cache as something else than the loader gave: a hit and a miss must answer alike.
 * @throws CacheError UNSUPPORTED_VALUE naming the place (`$.resets_at`) and the remedy, never the value
 */
export function refuseUnsupported(value: unknown): void {
  let found: { path: string; kind: string } | null;
  try {
    found = value === undefined ? null : findUnsupported(value, '$', new Set());
  } catch (cause) {
    // The walk recurses as JSON.stringify does: what overflows one overflows the other.
    throw new CacheError('UNSUPPORTED_VALUE', 'The value is nested too deeply to be cached; flatten it.', {
      cause,
    });
  }
  if (found === null) return;
  throw new CacheError(
    'UNSUPPORTED_VALUE',
    `The value at ${found.path} is ${found.kind}, which JSON would change. Convert it in the loader ` +
      '(a Date with toISOString(), a bigint with toString(), a Map or Set to an array).',
  );
}

function findUnsupported(
  value: unknown,
  path: string,
  above: Set<object>,
): { path: string; kind: string } | null {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return null;
    case 'number':
      return Number.isFinite(value) ? null : { path, kind: 'NaN or infinite' };
    case 'object':
      break;
    default:
      return { path, kind: typeof value === 'undefined' ? 'undefined' : `a ${typeof value}` };
  }
  if (value === null) return null;
  if (above.has(value)) return { path, kind: 'a cycle' };
  const hasToJSON = 'toJSON' in value && typeof value.toJSON === 'function';
  if (hasToJSON || value instanceof Map || value instanceof Set || ArrayBuffer.isView(value)) {
    return { path, kind: `a ${value.constructor?.name ?? 'object with toJSON'}` };
  }
  above.add(value);
  const children = Array.isArray(value) ? value.entries() : Object.entries(value);
  for (const [name, child] of children) {
    // A property that is undefined disappears in JSON, which reads the same; an array's hole would become null.
    if (child === undefined && !Array.isArray(value)) continue;
    const found = findUnsupported(
      child,
      `${path}${typeof name === 'number' ? `[${name}]` : `.${name}`}`,
      above,
    );
    if (found !== null) return found;
  }
  above.delete(value);
  return null;
}
