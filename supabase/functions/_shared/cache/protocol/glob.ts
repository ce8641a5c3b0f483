/**
 * Redis globs (`*`, `?`, `[a-c]`, `[^a]`, `\` as escape), matched here as Redis would. A sweep needs more than a match: it asks
 * whether some key that starts with a given text could match, and deletes that text's fence if so.
 *
 * As in Redis, what is matched is the bytes of UTF-8: `?` is one byte, so `é` takes two of them.
 */

type Token = { readonly any: true } | { readonly accepts: (character: string) => boolean };

/** A text as the glob that matches only itself. */
export function escapeGlob(text: string): string {
  return text.replace(/[\\*?[\]^]/g, '\\$&');
}

export interface Glob {
  /** Whether it matches a whole text, as Redis would say. */
  matches(text: string): boolean;
  /** Whether some text that starts with `start` (or is it) could match. */
  couldMatchFrom(start: string): boolean;
  /** The literal text that everything it matches starts with. */
  readonly literalStart: string;
}

export function compileGlob(glob: string): Glob {
  const tokens = tokenise(glob);
  return {
    matches: (text) => positionsAfter(tokens, bytesOf(text)).has(tokens.length),
    couldMatchFrom: (start) => positionsAfter(tokens, bytesOf(start)).size > 0,
    literalStart: /^[^*?[\\]*/.exec(glob)?.[0] ?? '',
  };
}

const utf8 = new TextEncoder();

/** A text's bytes, each as the character of its number. */
function bytesOf(text: string): string[] {
  return Array.from(utf8.encode(text), (byte) => String.fromCharCode(byte));
}

function tokenise(glob: string): Token[] {
  const tokens: Token[] = [];
  const characters = bytesOf(glob);
  for (let index = 0; index < characters.length; index++) {
    const character = characters[index] ?? '';
    if (character === '*') tokens.push({ any: true });
    else if (character === '?') tokens.push({ accepts: () => true });
    else if (character === '[') {
      const end = classEnd(characters, index + 1);
      tokens.push({ accepts: classMatcher(characters.slice(index + 1, end)) });
      index = end;
    } else {
      const literal =
        character === '\\' && index + 1 < characters.length ? (characters[++index] ?? '') : character;
      tokens.push({ accepts: (other) => other === literal });
    }
  }
  return tokens;
}

/** Index of the `]` that closes a class; an unclosed class reaches to the end, as in Redis. */
function classEnd(characters: readonly string[], start: number): number {
  for (let index = start; index < characters.length; index++) {
    if (characters[index] === '\\') index++;
    else if (characters[index] === ']') return index;
  }
  return characters.length;
}

function classMatcher(inside: readonly string[]): (character: string) => boolean {
  const negated = inside[0] === '^';
  const ranges: [string, string][] = [];
  for (let index = negated ? 1 : 0; index < inside.length; index++) {
    if (inside[index] === '\\' && index + 1 < inside.length) index++;
    const from = inside[index] ?? '';
    const to = inside[index + 1] === '-' ? inside[index + 2] : undefined;
    if (to !== undefined) index += 2;
    ranges.push(to !== undefined && to < from ? [to, from] : [from, to ?? from]);
  }
  return (character) => ranges.some(([from, to]) => from <= character && character <= to) !== negated;
}

/** Every place in the glob that reading the text can lead to: a walk over all possibilities at once, never exponential. */
function positionsAfter(tokens: readonly Token[], text: readonly string[]): Set<number> {
  let positions = withSkippedStars(tokens, [0]);
  for (const character of text) {
    const next: number[] = [];
    for (const position of positions) {
      const token = tokens[position];
      if (token === undefined) continue;
      if ('any' in token) next.push(position);
      else if (token.accepts(character)) next.push(position + 1);
    }
    positions = withSkippedStars(tokens, next);
    if (positions.size === 0) break;
  }
  return positions;
}

function withSkippedStars(tokens: readonly Token[], positions: readonly number[]): Set<number> {
  const all = new Set<number>();
  for (const start of positions) {
    let position = start;
    all.add(position);
    while (tokens[position] !== undefined && 'any' in (tokens[position] ?? {})) all.add(++position);
  }
  return all;
}
