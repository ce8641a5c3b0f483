/**
 * Output of the one-shot commands: text for people, coloured only on a terminal, or with --json exactly one JSON document.
 */
import { stripVTControlCharacters, styleText } from 'node:util';
import { hasColours, printable } from '../lib/text.ts';

export type Tone = 'ok' | 'warn' | 'fail' | 'dim' | 'strong';

const STYLES = { ok: 'green', warn: 'yellow', fail: 'red', dim: 'dim', strong: 'bold' } as const;

export function paint(tone: Tone, text: string): string {
  return hasColours() ? styleText(STYLES[tone], text) : text;
}

export function print(line = ''): void {
  process.stdout.write(`${printable(line)}\n`);
}

export function printJson(document: unknown): void {
  print(JSON.stringify(document, null, 2));
}

/** Rows in columns as wide as their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const width = (cell: string) => stripVTControlCharacters(cell).length;
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, index) =>
    Math.max(...rows.map((row) => width(row[index] ?? ''))),
  );
  return rows
    .map((row) =>
      row
        .map((cell, index) => cell + ' '.repeat((widths[index] ?? 0) - width(cell)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
