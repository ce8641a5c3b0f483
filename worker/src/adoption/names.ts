/**
 * Which names modules take from a file, and which ones a file gives: whether it can stand in for another. Types count too.
 * Pure, and read from the statements at the start of a line, as imports.ts reads them.
 */

/** Of ours, which Biome formats: what stands between the braces, and the specifier. */
const TAKEN = /^(?:import|export)\s[^;'{}]*\{([^{}]*)\}\s*from\s+'([^']+)'/gm;

/** Of an application's own file, formatted in whatever way. */
const DECLARED =
  /^export\s+(?:declare\s+|abstract\s+|async\s+)*(?:const\s+enum|const|let|var|function\s*\*?|class|enum|type|interface|namespace)\s*([\p{ID_Start}$_][\p{ID_Continue}$]*)/gmu;
const LISTED = /^export\s+(?:type\s*)?\{([^{}]*)\}/gm;

/** The names that a source imports or re-exports from a specifier. */
export function namesTaken(source: string, specifier: string): string[] {
  return [...source.matchAll(TAKEN)].flatMap(([, list = '', from]) =>
    from === specifier ? entries(list).map(({ name }) => name) : [],
  );
}

/** The names that a source exports by name; what an `export *` brings is not among them. */
export function namesGiven(source: string): Set<string> {
  const declared = [...source.matchAll(DECLARED)].map(([, name = '']) => name);
  const listed = [...source.matchAll(LISTED)].flatMap(([, list = '']) => entries(list).map(({ as }) => as));
  return new Set([...declared, ...listed]);
}

/** `type one, two as three`: the name there and the name here. */
function entries(list: string): { readonly name: string; readonly as: string }[] {
  return list
    .split(',')
    .map((entry) => entry.trim().replace(/^type\s+(?!as\b)/, ''))
    .filter(Boolean)
    .map((entry) => {
      const [name = '', as = name] = entry.split(/\s+as\s+/);
      return { name, as };
    });
}
