/**
 * Key types: what an application declares about its keys, and how a key finds its type. The product knows none: they are an
 * argument of createCache. A key of no declared type works too; it lives for five minutes, its entity is the whole key (its first two
 * segments when it has more than 32), and it is counted under `other`.
 */
import { MOST_FENCES, readDependency } from './dependencies.ts';
import { CacheError } from './errors.ts';
import {
  checkKey,
  fencesOf,
  MOST_SEGMENTS,
  type Plan,
  RESERVED_FIRST_SEGMENTS,
  scopeOfFence,
} from './fences.ts';
import { isRecord } from './plain-objects.ts';
import { OTHER_TYPE } from './statistics.ts';
import { isTime, TIME_IN_WORDS, type Time } from './times.ts';

/** One declared type. */
export interface KeyType {
  /**
   * The template, such as `quota:{org}:{line1:integer}`. `{name}` is a variable segment of type text, `{name:uuid}` one of another type
   * (see SegmentValues); everything else is literal. The first segment is literal and names the type's fence.
   */
  readonly key: string;
  /**
   * How many segments make the entity, the smallest group that is invalidated at once; 2 or more. With 2, any write to an
   * organisation's quotas makes all of its quota answers unreadable. With 3, a write to `cost:openai:gpt-5` leaves the
   * provider's other prices alone.
   */
  readonly entity: number;
  /** Seconds, or a text such as '5m', an entry lives at most. It is a safety net, since what changes is invalidated. */
  readonly ttl: Time;
  /** The share of reads that should be hits, from 0 to 1; `fencepost status` compares. */
  readonly hitRate?: number;
  /** False: no answer while no worker is alive, not even for seconds, and none past its time. For what grants access. */
  readonly degraded?: false;
}

/** The types of an application, by name. */
export type KeyTypes = Readonly<Record<string, KeyType>>;

/** What a builder takes for a segment of each type; keys.ts has the canonical form of each. */
export interface SegmentValues {
  text: string;
  uuid: string;
  boolean: boolean | 'true' | 'false';
  integer: number | bigint | string;
  numeric: number | bigint | string;
  date: Date | string;
  instant: Date | string;
}

export type SegmentType = keyof SegmentValues;

const SEGMENT_TYPES: Readonly<Record<SegmentType, true>> = {
  text: true,
  uuid: true,
  boolean: true,
  integer: true,
  numeric: true,
  date: true,
  instant: true,
};

export type Segment = { readonly literal: string } | { readonly name: string; readonly type: SegmentType };

/** A declared type, ready for use. */
export interface CompiledType extends KeyType {
  readonly name: string;
  readonly segments: readonly Segment[];
}

/** Plans that a catalogue remembers. A key's plan never changes, and a hot key is read often. */
const REMEMBERED_PLANS = 1_000;

/** An application's types, compiled: finds the type of a key. */
export class KeyCatalogue {
  /** In the order of their declaration. */
  readonly types: readonly CompiledType[];
  readonly #byFirstSegment = new Map<string, CompiledType[]>();
  readonly #plans = new Map<string, Plan>();

  /** @throws CacheError INVALID_CONFIGURATION naming the type that cannot work */
  constructor(types: KeyTypes) {
    this.types = compileTypes(types);
    for (const type of this.types) {
      // No literal is *, so only a variable takes it.
      const example = type.segments
        .map((segment) => ('literal' in segment ? segment.literal : '*'))
        .join(':');
      const earlier = this.typeOf(example);
      if (earlier !== undefined) {
        throw wrongType(
          type.name,
          `every key of ${JSON.stringify(type.key)} is already one of type ${earlier.name}; declare one of them`,
        );
      }
      const first = firstSegmentOf(type.key);
      this.#byFirstSegment.set(first, [...(this.#byFirstSegment.get(first) ?? []), type]);
    }
  }

  /** The type whose template a key follows, or undefined for a key of none. */
  typeOf(key: string): CompiledType | undefined {
    const candidates = this.#byFirstSegment.get(firstSegmentOf(key));
    if (candidates === undefined) return undefined;
    const parts = key.split(':');
    return candidates.find(
      ({ segments }) =>
        segments.length === parts.length &&
        segments.every((segment, index) => !('literal' in segment) || segment.literal === parts[index]),
    );
  }

  /**
   * A key with its fences and its type.
   * @param dependsOn what else it stands behind (dependencies.ts)
   * @throws CacheError INVALID_KEY as checkKey and readDependency do; INVALID_CONFIGURATION for too many fences
   */
  planFor(key: string, dependsOn: readonly string[] = []): Plan {
    const name = dependsOn.length === 0 ? key : JSON.stringify([key, ...dependsOn]);
    const known = this.#plans.get(name);
    // A caller's key may be the name of another's plan: it holds brackets, which newPlan refuses.
    if (known !== undefined && known.key === key) return known;
    const plan = this.#newPlan(key, dependsOn);
    // Nothing depends on remembered plans. To forget them all is cheaper than to track which is oldest.
    if (this.#plans.size >= REMEMBERED_PLANS) this.#plans.clear();
    this.#plans.set(name, plan);
    return plan;
  }

  #newPlan(key: string, dependsOn: readonly string[]): Plan {
    checkKey(key);
    const type = this.typeOf(key);
    const own = fencesOf(key, type?.entity);
    const others = new Set<string>();
    const dependencyTypes = new Set<CompiledType>();
    for (const { scope, isGroup } of dependsOn.map(readDependency)) {
      const its = isGroup ? undefined : this.typeOf(scope);
      for (const fence of fencesOf(scope, its?.entity)) if (!own.includes(fence)) others.add(fence);
      for (const one of isGroup ? this.#typesIn(scope) : [its])
        if (one !== undefined) dependencyTypes.add(one);
    }
    const dependencies = [...others].sort();
    const fences = [...own, ...dependencies];
    if (fences.length > MOST_FENCES) {
      throw new CacheError(
        'INVALID_CONFIGURATION',
        `A key with what it depends on stands behind at most ${MOST_FENCES} fences; depend on groups, or on fewer keys.`,
      );
    }
    // Declared first segments are few. Callers may make up any number of others, so the fences of those expire.
    const lasting = (fence: string): boolean => {
      const scope = scopeOfFence(fence) ?? '';
      return !scope.includes(':') && this.#byFirstSegment.has(scope);
    };
    const expiring = fences.filter((fence) => !lasting(fence));
    return { key, fences, dependencies, expiring, type, dependencyTypes: [...dependencyTypes] };
  }

  /** The types of which a group may hold keys. */
  #typesIn(group: string): CompiledType[] {
    const parts = group.split(':');
    return (this.#byFirstSegment.get(firstSegmentOf(group)) ?? []).filter(
      ({ segments }) =>
        segments.length > parts.length &&
        parts.every((part, index) => {
          const segment = segments[index];
          return segment !== undefined && (!('literal' in segment) || segment.literal === part);
        }),
    );
  }
}

/** @throws CacheError INVALID_CONFIGURATION: what TypeScript would refuse, too, since an application may be JavaScript */
export function compileTypes(types: KeyTypes): CompiledType[] {
  if (isRecord(types)) return Object.entries(types).map(([name, type]) => compileType(name, type));
  throw new CacheError('INVALID_CONFIGURATION', 'types must be an object of key types by name.');
}

function compileType(name: string, type: KeyType): CompiledType {
  const demand = (met: boolean, problem: string): void => {
    if (!met) throw wrongType(name, problem);
  };
  demand(
    NAME.test(name) && name !== OTHER_TYPE,
    `its name must be printable, not start with #, and not be "${OTHER_TYPE}"`,
  );
  demand(
    isRecord(type) && typeof type.key === 'string',
    'it must be an object such as { key: "order:{id}", entity: 2, ttl: 300 }',
  );
  const { key, entity, ttl, hitRate, degraded, ...others } = type;
  const [unknown] = Object.keys(others);
  demand(
    unknown === undefined,
    `it has no ${JSON.stringify(unknown)}; there are key, entity, ttl, hitRate and degraded`,
  );
  const shown = JSON.stringify(key);
  const segments = key.split(SEPARATOR).map((part): Segment => {
    const [, variable, segmentType = 'text'] = VARIABLE.exec(part) ?? [];
    if (variable === undefined) {
      demand(
        LITERAL.test(part),
        `${JSON.stringify(part)} of ${shown} is neither one {name} or {name:type} nor 1 to 200 of A-Z a-z 0-9 _ . ! ' ( ) -`,
      );
      return { literal: part };
    }
    if (!isSegmentType(segmentType)) {
      throw wrongType(
        name,
        `${JSON.stringify(part)} of ${shown} is of no type among ${Object.keys(SEGMENT_TYPES).join(', ')}`,
      );
    }
    return { name: variable, type: segmentType };
  });
  const [first] = segments;
  demand(
    first !== undefined && 'literal' in first && !RESERVED_FIRST_SEGMENTS.has(first.literal),
    `${shown} must start with literal text, other than fence and fencepost`,
  );
  const variables = segments.flatMap((segment) => ('name' in segment ? [segment.name] : []));
  demand(
    new Set(variables).size === variables.length,
    `${shown} names a variable twice; give each its own name`,
  );
  demand(
    segments.length <= MOST_SEGMENTS,
    `${shown} has more than ${MOST_SEGMENTS} segments; join some of them`,
  );
  demand(
    Number.isInteger(entity) && entity >= 2 && entity <= segments.length,
    `its entity must be between 2 and the ${segments.length} segments of ${shown}`,
  );
  demand(isTime(ttl), `its ttl must be ${TIME_IN_WORDS}`);
  demand(hitRate === undefined || isBetween(hitRate, 0, 1), 'its hitRate must be a number between 0 and 1');
  demand(degraded === undefined || degraded === false, 'its degraded must be false or left out');
  return { ...type, name, segments };
}

function wrongType(name: string, problem: string): CacheError {
  return new CacheError('INVALID_CONFIGURATION', `Key type ${JSON.stringify(name)}: ${problem}.`);
}

/** A number: '0.7' compares as one, and is none. */
function isBetween(value: unknown, least: number, most: number): boolean {
  return typeof value === 'number' && value >= least && value <= most;
}

/** It is a member of the statistics, a label in Prometheus and a cell of a table. */
const NAME = /^(?!#)[^\p{Cc}\p{Cs}\u2028\u2029]+$/u;

/** A colon that is not within braces. */
const SEPARATOR = /:(?![^{]*\})/;

const VARIABLE = /^\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}$/;

/** As template_segments() of the migrations has it: encodeSegment leaves it as it is, and cache_invalidation.watch() accepts it. */
const LITERAL = /^[A-Za-z0-9_.!'()-]{1,200}$/;

function isSegmentType(name: string): name is SegmentType {
  return Object.hasOwn(SEGMENT_TYPES, name);
}

function firstSegmentOf(key: string): string {
  const end = key.indexOf(':');
  return end === -1 ? key : key.slice(0, end);
}
