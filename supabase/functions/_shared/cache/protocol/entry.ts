/**
 * What an entry looks like in Redis: one JSON object, written once and never patched.
 *
 *   { "v": 1, "f": ["…", "…"], "e": "…"|null, "t": 1793527200000, "s": 1793530800000, "g": 0, "d": <value> }
 *
 *   v  format; another number is a miss, so that versions can live side by side during a deployment. 2: `d` is the text of the
 *      application's serializer, which clients that know no other format than 1 take for a miss
 *   z  with format 2: which serializer that was (client/serializer.ts); for all others it is a miss
 *   f  the values of the fences that it was loaded under, in the order of Plan.fences, and of the epoch as the last
 *   e  that epoch again if a worker vouched for it; null when none did, and then it is never a hit once one does
 *   t  when its load began, milliseconds since 1970 by the loader's clock
 *   s  when it turns stale (fresh until then, kept longer for staleWhileRevalidate and staleIfError); absent: with its TTL
 *   l  when its TTL is over, in milliseconds after `t` and never later than in Redis; absent where `s` says when it turns stale
 *   g  how many milliseconds old it may be while no worker is alive, as the call that stored it said; absent: 30 000
 *   x  the names of the fences that are its dependencies', without "fence:"; absent: none (dependencies.ts)
 *   d  the value; absent when the loader answered undefined, which is cached like null and is no miss
 *
 * An entry holds the values of its own fences, not their names. Their number gives the depth of the entity, and the key gives the names
 * (planOfEntry in key-state.ts). So a worker that knows no key types can judge any entry.
 */
import { DEGRADED_MAX_AGE_SECONDS } from './epoch.ts';
import { FENCE_PREFIX } from './fences.ts';

const FORMAT = 1;
const SERIALIZED_FORMAT = 2;

const USUAL_DEGRADED_MS = DEGRADED_MAX_AGE_SECONDS * 1_000;

/** What an entry was loaded under; taken before the load and never refreshed. */
export interface VersionStamp {
  readonly fences: readonly string[];
  readonly epoch: string | null;
  /** Milliseconds since 1970 at which the load began. */
  readonly loadedAt: number;
}

export function isStampOrNull(value: unknown): value is VersionStamp | null {
  if (typeof value !== 'object' || value === null) return value === null;
  const { fences, epoch, loadedAt } = value as Partial<Record<keyof VersionStamp, unknown>>;
  if (!Array.isArray(fences) || !fences.every((fence) => typeof fence === 'string')) return false;
  return (typeof epoch === 'string' || epoch === null) && Number.isFinite(loadedAt);
}

export interface Envelope extends VersionStamp {
  readonly staleAt: number | null;
  /** When it turns stale or its TTL is over, by the clock of who stored it; null: an earlier version stored it. */
  readonly freshUntil: number | null;
  /** How old it may be while no worker is alive; 0: it is no answer then. */
  readonly degradedMs: number;
  /** The names of the fences that are its dependencies'; their values are in `fences`, between its own and the epoch. */
  readonly dependencies: readonly string[];
  /** Which of the application's serializers the value is a text of; null: none. */
  readonly serializer: string | null;
  readonly value: unknown;
}

/** The text to store. @param value one in which `unsupportedIn` finds nothing */
export function writeEnvelope(
  stamp: VersionStamp,
  value: unknown,
  staleAt: number | null,
  degradedMs: number = USUAL_DEGRADED_MS,
  dependencies: readonly string[] = [],
  serializer: string | null = null,
  freshUntil: number | null = null,
): string {
  const ends = freshUntil === null ? '' : `,"l":${freshUntil - stamp.loadedAt}`;
  const stale = staleAt === null ? ends : `,"s":${staleAt}`;
  const degraded = degradedMs === USUAL_DEGRADED_MS ? '' : `,"g":${degradedMs}`;
  const scopes = dependencies.map((fence) => fence.slice(FENCE_PREFIX.length));
  const others = scopes.length === 0 ? '' : `,"x":${JSON.stringify(scopes)}`;
  const data = value === undefined ? '' : `,"d":${JSON.stringify(value)}`;
  const fences = JSON.stringify(stamp.fences);
  const format = serializer === null ? FORMAT : `${SERIALIZED_FORMAT},"z":${JSON.stringify(serializer)}`;
  return `{"v":${format},"f":${fences},"e":${JSON.stringify(stamp.epoch)},"t":${stamp.loadedAt}${stale}${degraded}${others}${data}}`;
}

/** The entry that a stored text holds, or null when the text has another format: then it is a miss. */
export function readEnvelope(text: string): Envelope | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof parsed !== 'object' || parsed === null || !('v' in parsed)) return null;
  if (parsed.v !== FORMAT && parsed.v !== SERIALIZED_FORMAT) return null;
  const {
    f,
    e,
    t,
    s,
    g,
    l,
    x = [],
    z,
    d,
  } = parsed as Partial<Record<'f' | 'e' | 't' | 's' | 'g' | 'l' | 'x' | 'z' | 'd', unknown>>;
  if (!Array.isArray(f) || !f.every((fence) => typeof fence === 'string')) return null;
  if ((typeof e !== 'string' && e !== null) || typeof t !== 'number') return null;
  if (s !== undefined && typeof s !== 'number') return null;
  if (g !== undefined && typeof g !== 'number') return null;
  if (l !== undefined && typeof l !== 'number') return null;
  if (parsed.v === SERIALIZED_FORMAT && typeof z !== 'string') return null;
  if (!Array.isArray(x) || !x.every((scope) => typeof scope === 'string')) return null;
  return {
    fences: f,
    epoch: e,
    loadedAt: t,
    staleAt: s ?? null,
    freshUntil: s ?? (l === undefined ? null : t + l),
    degradedMs: g ?? USUAL_DEGRADED_MS,
    dependencies: x.map((scope) => FENCE_PREFIX + scope),
    serializer: parsed.v === SERIALIZED_FORMAT ? (z as string) : null,
    value: d,
  };
}
