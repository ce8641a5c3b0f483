/**
 * Which files a module needs: its own imports, theirs, and so on, read from the import statements. Types count too, since
 * who type-checks the module needs their files as well.
 */
import { posix } from 'node:path';

export interface ModuleGraph {
  /** Files, relative to the folder and sorted, the entry among them. */
  readonly files: readonly string[];
  /** Packages that they import, sorted; not those of Node. */
  readonly packages: readonly string[];
}

/** Statements at the start of a line, as Biome formats them (an example in a comment is none), and import() anywhere. */
const IMPORTS =
  /^(?:import|export)\s[\w\s{},*]*?from\s+'([^']+)'|^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm;

/** The specifiers that a TypeScript source imports or re-exports from, in its order. */
export function importsOf(source: string): string[] {
  return [...source.matchAll(IMPORTS)].flatMap(([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? []);
}

/**
 * @param entry a file, relative to the folder with `/` in between
 * @param read gives the text of such a file; what it throws is passed on
 */
export async function moduleGraph(
  entry: string,
  read: (file: string) => Promise<string>,
): Promise<ModuleGraph> {
  const files = new Set([entry]);
  const packages = new Set<string>();
  // A Set's iteration also visits what is added meanwhile.
  for (const file of files) {
    for (const specifier of importsOf(await read(file))) {
      if (specifier.startsWith('.')) files.add(posix.join(posix.dirname(file), specifier));
      else if (!specifier.startsWith('node:')) packages.add(specifier);
    }
  }
  return { files: [...files].sort(), packages: [...packages].sort() };
}
