/**
 * The catalogue of key types. One line here gives a type its typed builder (`keys.quota(…)`), its scopes, its TTL and
 * its line in the statistics. Keys of no type in the catalogue work too: TTL.MEDIUM, an entity of two segments, and
 * statistics under `other`.
 *
 * A line holds
 *   key       the template. `{name}` is a variable segment of type text, `{name:uuid}` one of another type (see
 *             SegmentValues); everything else is literal. The first segment is literal and names the fence of the type.
 *   entity    how many segments make the entity, the smallest group that is invalidated at once (2 or more). `quota`
 *             has 2: any quota write of an organisation makes all of its quota answers unreadable. `cost` has 3: a
 *             write to one price leaves the provider's other prices alone.
 *   ttl       seconds an entry lives at most; a safety net, since what changes is invalidated.
 *   hitRate   the share of reads that should be hits, 0 to 1; `fencepost status` compares.
 *   degraded  false: never answered while the worker is dead, not even for seconds. For what grants access.
 */

/** Times to live, in seconds. */
export const TTL = {
  SHORT: 60,
  MEDIUM: 300,
  LONG: 3600,
  DAY: 86_400,
  SESSION: 900,
  QUOTA: 300,
  USAGE: 300,
  PREFS: 3600,
  COST: 86_400,
} as const;

export interface KeyType {
  readonly key: string;
  readonly entity: number;
  readonly ttl: number;
  readonly hitRate?: number;
  readonly degraded?: false;
}

export const catalogue = {
  session: { key: 'session:{id}:state', entity: 2, ttl: TTL.SESSION, hitRate: 0.7 },
  prefs: { key: 'user:{user}:prefs', entity: 2, ttl: TTL.PREFS },
  quota: { key: 'quota:{org}:{provider}:{model}', entity: 2, ttl: TTL.QUOTA, hitRate: 0.8 },
  usage: { key: 'usage:{org}:{start:date}:{end:date}', entity: 2, ttl: TTL.USAGE, hitRate: 0.6 },
  cost: { key: 'cost:{provider}:{model}', entity: 3, ttl: TTL.COST, hitRate: 0.95 },
  member: { key: 'member:{org}:{user}', entity: 3, ttl: TTL.QUOTA, degraded: false },
  // A team's own types follow; docs/cache.md walks through this one from its migration to its reader.
  workflow: { key: 'workflow:{id}:definition', entity: 2, ttl: TTL.LONG },
} as const satisfies Record<string, KeyType>;

export type TypeName = keyof typeof catalogue;

/** What a builder takes for a segment of each type; `keys.ts` holds the canonical form of each. */
export interface SegmentValues {
  text: string;
  uuid: string;
  integer: number | bigint | string;
  date: Date | string;
  instant: Date | string;
}

export type SegmentType = keyof SegmentValues;

export type Segment = { readonly literal: string } | { readonly name: string; readonly type: SegmentType };

/** A line of the catalogue, ready for use. */
export interface CompiledType extends KeyType {
  readonly name: TypeName;
  readonly segments: readonly Segment[];
}

const SEGMENT_TYPES: ReadonlySet<string> = new Set(['text', 'uuid', 'integer', 'date', 'instant']);

/** First segments that belong to the machinery: no key may start with one of them. */
export const RESERVED_FIRST_SEGMENTS: ReadonlySet<string> = new Set(['fence', 'fencepost']);

/**
 * A template's segments.
 * @throws TypeError naming the template when a segment's type is unknown or the first segment is variable or reserved:
 * a mistake in this file, found when the module is first imported.
 */
export function compileTemplate(template: string): Segment[] {
  const segments = template.split(/:(?![^{]*\})/).map((part): Segment => {
    const variable = /^\{([a-z_]+)(?::([a-z]+))?\}$/.exec(part);
    if (variable === null) {
      if (part === '' || /[{}*?[\]\\%~]/.test(part))
        throw new TypeError(`catalogue: bad segment in ${template}`);
      return { literal: part };
    }
    const [, name = '', type = 'text'] = variable;
    if (!SEGMENT_TYPES.has(type))
      throw new TypeError(`catalogue: unknown segment type ${type} in ${template}`);
    return { name, type: type as SegmentType };
  });
  const first = segments[0];
  if (first === undefined || !('literal' in first) || RESERVED_FIRST_SEGMENTS.has(first.literal)) {
    throw new TypeError(
      `catalogue: ${template} must start with a literal segment other than fence and fencepost`,
    );
  }
  return segments;
}

const compiled: readonly CompiledType[] = (Object.entries(catalogue) as [TypeName, KeyType][]).map(
  ([name, type]) => {
    const segments = compileTemplate(type.key);
    if (!Number.isInteger(type.entity) || type.entity < 2 || type.entity > segments.length) {
      throw new TypeError(`catalogue: entity of ${type.key} must be between 2 and its number of segments`);
    }
    return { ...type, name, segments };
  },
);

const byFirstSegment = new Map<string, CompiledType[]>();
for (const type of compiled) {
  const first = type.key.slice(0, type.key.indexOf(':'));
  byFirstSegment.set(first, [...(byFirstSegment.get(first) ?? []), type]);
}

/** The types of the catalogue in its order. */
export function catalogueTypes(): readonly CompiledType[] {
  return compiled;
}

/** Whether the catalogue names a first segment; there are only so many of those, and of others as many as callers think of. */
export function isCatalogued(firstSegment: string): boolean {
  return byFirstSegment.has(firstSegment);
}

/** The type whose template a key follows, or undefined for a key outside the catalogue. */
export function typeOf(key: string): CompiledType | undefined {
  const separator = key.indexOf(':');
  const candidates = byFirstSegment.get(separator === -1 ? key : key.slice(0, separator));
  if (candidates === undefined) return undefined;
  const parts = key.split(':');
  return candidates.find(
    ({ segments }) =>
      segments.length === parts.length &&
      segments.every((segment, index) => !('literal' in segment) || segment.literal === parts[index]),
  );
}
