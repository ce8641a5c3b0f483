/** Text for people: what a terminal may be shown, and how long something took. */

/** Control characters, except line feeds and the sequences that colour text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROLS = /\x1b(?!\[[\d;]*m)|[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f]/g;

/**
 * The text with control characters written as JSON writes them, so that a JSON document stays one.
 * Names come from databases, and a name may hold a sequence that moves the terminal's cursor.
 */
export function printable(text: string): string {
  return text.replace(CONTROLS, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Colours are for terminals, unless NO_COLOR is set and not empty (no-color.org). */
export function hasColours(): boolean {
  return process.stdout.isTTY === true && !process.env.NO_COLOR;
}

/** A time in the unit that suits its length. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}
