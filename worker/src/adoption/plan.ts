/**
 * What `fencepost init` does with each file, decided before anything is written. All is written or nothing: half a module,
 * or migrations of two versions, would be worse than none.
 *
 *     absent                                  new        written
 *     the same text                           same       left
 *     cache.ts, key-types.ts that differ      yours      left: they are the application's own to edit, unless one
 *                                             differs    is something else of that name: nothing is written, `force` or not
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
  /** Of a cache.ts or key-types.ts of state `differs`: what shows that it is something else. */
  readonly lacks?: string;
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

/** The application's own to edit (docs/cache.md), and what each of them has in common with ours. */
const OWN = new Map([
  ['cache.ts', { sign: /from\s+['"]\.\/cache\/client\//, lacks: 'import from ./cache/client/' }],
  // By its declaration or in a list; TypeScript finds what this overlooks.
  ['key-types.ts', { sign: /^export\b[^;=(]*\btypes\b/m, lacks: 'export types' }],
]);

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
    const own = OWN.get(name);
    if (own === undefined) return { path, kind: 'module', state: force ? 'replaced' : 'differs', text };
    if (own.sign.test(present.texts.get(path) ?? '')) return { path, kind: 'module', state: 'yours', text };
    return { path, kind: 'module', state: 'differs', text, lacks: own.lacks };
  });

  const first = template.migrations[0]?.name;
  return {
    files: [...migrations, ...modules],
    later: first === undefined ? [] : theirs.filter((name) => version(name) > version(first)),
  };
}

/** Git on Windows may have changed the ends of lines, which changes nothing else. */
function sameText(one: string, other: string): boolean {
  return one.replaceAll('\r\n', '\n') === other.replaceAll('\r\n', '\n');
}

/** What Supabase knows a migration by. */
function version(name: string): string {
  return /^\d*/.exec(name)?.[0] ?? '';
}
