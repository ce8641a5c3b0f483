/**
 * What `fencepost init` does with each file, decided before anything is written. All is written or nothing: half a module,
 * or migrations of two versions, would be worse than none.
 *
 *     absent                                  new        written
 *     the same text                           same       left
 *     key-types.ts that differs               yours      left: it holds the application's key types, if it exports what
 *                                                        cache.ts imports from it, else
 *                                             differs    nothing is written, `force` or not: it is something else
 *     another file of the module that differs replaced   with `force`, else
 *                                             differs    nothing is written
 *     a migration that differs                differs    nothing is written: a database may have it already
 *     a version that another migration has    taken      nothing is written: Supabase knows migrations by their version
 */
import type { Template } from './template.ts';

export type FileState = 'new' | 'same' | 'yours' | 'replaced' | 'differs' | 'taken';

export interface PlannedFile {
  /** From the project's root, with `/` in between. */
  readonly path: string;
  readonly kind: 'migration' | 'module';
  readonly state: FileState;
  readonly text: string;
  /** Of state `taken`: whose version it is. */
  readonly by?: string;
  /** Of a key-types.ts that differs: what cache.ts imports from it and it does not export. */
  readonly lacks?: readonly string[];
}

export interface Plan {
  readonly files: readonly PlannedFile[];
  /**
   * The project's own migrations with a later version than one of ours. If they are pushed and ours are not, ours are out of
   * order. What is pushed is not known here, so they are listed even where ours are already there.
   */
  readonly later: readonly string[];
}

/** What a project has. */
export interface Present {
  /** Names of the files in supabase/migrations. */
  readonly migrations: readonly string[];
  /** The text of those files of the template that are there, by path from the project's root; empty for a link to nothing. */
  readonly texts: ReadonlyMap<string, string>;
}

export interface Choices {
  /** The cache module's folder in supabase/functions. */
  readonly into: string;
  readonly force: boolean;
}

/** The application's own to edit: see docs/cache.md. */
export const KEY_TYPES = 'key-types.ts';
/** What cache.ts imports from key-types.ts. */
export const KEY_TYPES_EXPORTS = ['TTL', 'keys', 'types'];

export const WRITTEN: ReadonlySet<FileState> = new Set(['new', 'replaced']);
export const REFUSED: ReadonlySet<FileState> = new Set(['differs', 'taken']);

function migrationPath(name: string): string {
  return `supabase/migrations/${name}`;
}

function modulePath(into: string, name: string): string {
  return `supabase/functions/${into}/${name}`;
}

/** Every file of the template with the path it goes to. */
export function destinations(template: Template, into: string): string[] {
  return [
    ...template.migrations.map(({ name }) => migrationPath(name)),
    ...template.modules.map(({ name }) => modulePath(into, name)),
  ];
}

export function planFor(template: Template, present: Present, { into, force }: Choices): Plan {
  const ours = new Set(template.migrations.map(({ name }) => name));
  const theirs = present.migrations.filter((name) => name.endsWith('.sql') && !ours.has(name)).sort();
  const byVersion = new Map(theirs.map((name) => [version(name), name]));
  const compare = (path: string, text: string) => {
    const found = present.texts.get(path);
    return found === undefined ? 'new' : sameText(found, text) ? 'same' : 'differs';
  };

  const migrations = template.migrations.map(({ name, text }): PlannedFile => {
    const path = migrationPath(name);
    const by = byVersion.get(version(name));
    if (by !== undefined) return { path, kind: 'migration', state: 'taken', text, by };
    return { path, kind: 'migration', state: compare(path, text), text };
  });
  const modules = template.modules.map(({ name, text }): PlannedFile => {
    const path = modulePath(into, name);
    const state = compare(path, text);
    if (state !== 'differs') return { path, kind: 'module', state, text };
    if (name !== KEY_TYPES) return { path, kind: 'module', state: force ? 'replaced' : 'differs', text };
    const found = present.texts.get(path) ?? '';
    const lacks = KEY_TYPES_EXPORTS.filter((wanted) => !exportsName(found, wanted));
    if (lacks.length === 0) return { path, kind: 'module', state: 'yours', text };
    return { path, kind: 'module', state: 'differs', text, lacks };
  });

  const first = template.migrations[0]?.name;
  return {
    files: [...migrations, ...modules],
    later: first === undefined ? [] : theirs.filter((name) => version(name) > version(first)),
  };
}

/** By its declaration or in a list; TypeScript finds what this overlooks. */
function exportsName(source: string, name: string): boolean {
  return new RegExp(`^export\\b[^;=(]*\\b${name}\\b`, 'm').test(source);
}

/** Git on Windows may have changed the ends of lines, which changes nothing else. */
function sameText(one: string, other: string): boolean {
  return one.replaceAll('\r\n', '\n') === other.replaceAll('\r\n', '\n');
}

/** What Supabase knows a migration by. */
function version(name: string): string {
  return /^\d*/.exec(name)?.[0] ?? '';
}
