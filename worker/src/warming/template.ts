/**
 * The URL template of `fencepost warm`: {column} placeholders in its path and query, filled by rows. Values are
 * percent-encoded, so each stays one value. Scheme, host and port are literal: no row decides who gets the token.
 */
import { ExitCode, WorkerError } from '../lib/errors.ts';

/** {column}, or {"column"} with quotes doubled for a name that holds braces or quotes. */
const PLACEHOLDER = /\{("(?:[^"]|"")+"|[^{}"]+)\}/;
/** A path segment `.` or `..`, plain or encoded. Every URL parser resolves it, so such a value cannot be sent. */
const DOT_SEGMENT = /^[^?]*\/(?:\.|%2e){1,2}(?:[/?]|$)/i;

/** A row's values in the order of `columns`. */
export type Row = readonly (string | null)[];

/** @throws WorkerError INVALID_TEMPLATE */
export function parseTemplate(text: string) {
  // Literals at even places, columns at odd ones.
  const parts = text.split(PLACEHOLDER);
  const names = parts.map((part) => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part));
  const columns = [...new Set(names.filter((_, index) => index % 2 === 1))];
  const join = (literals: readonly string[], value: (column: string) => string) =>
    literals.map((literal, index) => (index % 2 === 0 ? literal : value(names[index] ?? ''))).join('');
  const urlWith = (value: string) => {
    const address = join(parts, () => value);
    return /^https?:/i.test(address) && URL.canParse(address) ? new URL(address) : null;
  };

  const url = urlWith('x');
  if (parts.some((part, index) => index % 2 === 0 && /[{}]/.test(part)))
    throw invalidTemplate('A placeholder is {column}; a brace of the address itself is written %7B or %7D.');
  if (url === null) throw invalidTemplate('It must begin with http:// or https:// and a host.');
  if (urlWith('y')?.origin !== url.origin)
    throw invalidTemplate('Placeholders stand in path and query; the host is the same for every row.');
  if (url.username !== '' || url.password !== '')
    throw invalidTemplate('Leave user and password out; the token goes into FENCEPOST_WARM_TOKEN.');
  if (text.includes('#')) throw invalidTemplate('What follows a # is never sent: leave it out.');

  const shown = withoutQueryValues(parts);
  return {
    origin: url.origin,
    /** Each placeholder's column, once. */
    columns,
    /** The address for a row; null when a value is NULL or makes a path segment `.` or `..`. */
    fill(row: Row): string | null {
      if (columns.some((_, index) => typeof row[index] !== 'string')) return null;
      const address = join(parts, (column) => encodeURIComponent(row[columns.indexOf(column)] ?? ''));
      return DOT_SEGMENT.test(address) ? null : address;
    },
    /** A row's address as it may be shown, or the template: without the values that its query gives itself. */
    show: (row?: Row): string =>
      join(shown, (column) => (row ? encodeURIComponent(row[columns.indexOf(column)] ?? '') : `{${column}}`)),
  };
}

export function invalidTemplate(problem: string): WorkerError {
  const message = `This is no address to warm. ${problem}`;
  return new WorkerError('INVALID_TEMPLATE', message, { exitCode: ExitCode.usage });
}

const QUERY_VALUE = /(?<=(?:^|&)[^&=]*=)[^&]+|(?<=^|&)[^&=]+(?=&|$)/g;

/** In the query's literals `name=value` becomes `name=…`, and text beside a placeholder `…`: a value may be a secret. */
function withoutQueryValues(parts: readonly string[]): string[] {
  let isQuery = false;
  return parts.map((part, index) => {
    if (index % 2 === 1) return part;
    const start = isQuery ? 0 : part.indexOf('?') + 1;
    isQuery ||= start > 0;
    return isQuery ? part.slice(0, start) + part.slice(start).replace(QUERY_VALUE, '…') : part;
  });
}
