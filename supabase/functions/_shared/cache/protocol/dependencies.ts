/**
 * What else an answer is made of: `dependsOn: ['quota:org-1:*', 'user:7:*', keys.session(id)]`. The key then stands behind the
 * fences of all of these as well as its own.
 *
 *   an exact key       its own fences, as its type declares them
 *   a:…:p:*            the fences of a key whose entity is a:…:p: its type's, those of the groups on the way, and fence:a:…:p
 *
 * Of a group the fence `fence:a:…:p` counts, which exact targets delete too; the group's own `fence:a:…:p:*` alone would miss a write to
 * one key of the group. So every target that names a key of the group deletes one of these fences (docs/protocol.md#fences).
 *
 * Refused are `a:*`, bare type names and `*`, whose every write would end the answer, and other globs, which no fence stands for.
 */
import { CacheError } from './errors.ts';
import { checkKey } from './fences.ts';

/** Fences of a key, its own and its dependencies', at most. */
export const MOST_FENCES = 64;

export interface Dependency {
  /** The key, or the group without its `:*`. */
  readonly scope: string;
  readonly isGroup: boolean;
}

/** @throws CacheError INVALID_KEY for what is neither a key of two or more segments nor such a group */
export function readDependency(dependency: string): Dependency {
  const isGroup = dependency.endsWith(':*');
  const scope = isGroup ? dependency.slice(0, -2) : dependency;
  if (!scope.includes(':')) {
    throw refused(
      'names a key or a group of two or more segments, such as order:7 or order:7:*, not a whole type',
    );
  }
  checkKey(scope);
  return { scope, isGroup };
}

/**
 * What a call's dependsOn names for one key. Each has to be a text here already: two lists that JSON writes alike are taken for one.
 * @throws CacheError INVALID_CONFIGURATION for what is no list, INVALID_KEY for what is no text in it, also for a gap
 */
export function checkDependencies(dependsOn: unknown): readonly string[] {
  if (Array.isArray(dependsOn)) {
    for (const dependency of dependsOn) if (typeof dependency !== 'string') throw refused('is a string');
    return dependsOn;
  }
  throw new CacheError(
    'INVALID_CONFIGURATION',
    'dependsOn must be a list of keys and groups, or a function that gives one.',
  );
}

function refused(problem: string): CacheError {
  return new CacheError('INVALID_KEY', `A dependency ${problem}.`);
}
