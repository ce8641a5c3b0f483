/** What a terminal may be shown: names come from databases, and anybody's name may hold a sequence that moves its cursor. */

/** Control characters, but line feeds and the sequences that colour text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROLS = /\x1b(?!\[[\d;]*m)|[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f]/g;

/** The text with control characters written out as JSON does, so that a JSON document stays one. */
export function printable(text: string): string {
  return text.replace(CONTROLS, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Colours only on a terminal, and not where NO_COLOR says no (no-color.org: not when it is empty). */
export function hasColours(): boolean {
  return process.stdout.isTTY === true && !process.env.NO_COLOR;
}
