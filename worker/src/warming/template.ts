/**
 * The address of `fencepost warm`: a URL with {column} placeholders, filled by rows. A value is percent-encoded as
 * encodeURIComponent does, so it stays the one value it is, whatever it holds. Scheme, host and port are the template's own:
 * no row decides who gets the token. Pure.
 */
import { ExitCode, WorkerError } from '../lib/errors.ts';

/** {column}, or {"column"} with quotes doubled, for a name that has braces or quotes in it. */
const PLACEHOLDER = /\{("(?:[^"]|"")+"|[^{}"]+)\}/;

/** A whole segment of a path that every URL parser resolves, written plainly or encoded: such a value cannot be sent. */
const DOTS = /\/(?:\.|%2e){1,2}(?:\/|$)/i;

/** A row's values in the order of `columns`. */
export type Row = readonly (string | null)[];

export interface Template {
  readonly origin: string;
  /** Each placeholder's column, once, in the order of its first appearance. */
  readonly columns: readonly string[];
  /** Literal text and placeholders by turns; a literal, perhaps empty, at both ends. */
  readonly parts: readonly string[];
  /** The parts as they may be shown: what the template's query itself says may be a secret. */
  readonly shown: readonly string[];
}

/**
 * @param text such as https://host/functions/v1/cost-estimate?provider={provider}&model={model}
 * @throws WorkerError INVALID_TEMPLATE
 */
export function parseTemplate(text: string): Template {
  const parts = text.split(PLACEHOLDER).map((part, index) => (index % 2 === 0 ? part : nameOf(part)));
  const literals = parts.filter((_, index) => index % 2 === 0);
  if (literals.some((literal) => /[{}]/.test(literal))) {
    throw invalid('A placeholder is {column}; a brace of the address itself is written %7B or %7D.');
  }
  const url = address(literals, 'x');
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw invalid('It must begin with http:// or https:// and a host.');
  }
  if (address(literals, 'y')?.origin !== url.origin) {
    throw invalid('Placeholders stand in the path and in the query; the host is the same for every row.');
  }
  if (url.username !== '' || url.password !== '') {
    throw invalid('Leave user and password out; the token goes into FENCEPOST_WARM_TOKEN.');
  }
  if (text.includes('#')) throw invalid('What follows a # is never sent: leave it out.');
  const columns = [...new Set(parts.filter((_, index) => index % 2 === 1))];
  return { origin: url.origin, columns, parts, shown: withoutQueryValues(parts) };
}

/** @returns the address for a row; null when there is none, because a value is NULL or a path segment would be `.` or `..` */
export function fill(template: Template, row: Row): string | null {
  const filled = join(template, template.parts, row);
  const [path = ''] = filled?.split('?', 1) ?? [];
  return filled === null || DOTS.test(path) ? null : filled;
}

/** The address as it may be shown: with the row's values, without those that the template itself gives in its query. */
export function show(template: Template, row: Row): string {
  return join(template, template.shown, row) ?? '';
}

/** The template as it may be shown. */
export function showTemplate({ shown }: Template): string {
  return shown.map((part, index) => (index % 2 === 0 ? part : `{${part}}`)).join('');
}

function join({ columns }: Template, parts: readonly string[], row: Row): string | null {
  const values = parts.map((part, index) => {
    if (index % 2 === 0) return part;
    const value = row[columns.indexOf(part)];
    return typeof value === 'string' ? encodeURIComponent(value) : null;
  });
  return values.includes(null) ? null : values.join('');
}

function nameOf(placeholder: string): string {
  return placeholder.startsWith('"') ? placeholder.slice(1, -1).replaceAll('""', '"') : placeholder;
}

function address(literals: readonly string[], value: string): URL | null {
  try {
    return new URL(literals.join(value));
  } catch {
    return null;
  }
}

function withoutQueryValues(parts: readonly string[]): string[] {
  const start = parts.findIndex((part, index) => index % 2 === 0 && part.includes('?'));
  return parts.map((part, index) => {
    if (index % 2 === 1 || start === -1 || index < start) return part;
    const query = index === start ? part.indexOf('?') + 1 : 0;
    return part.slice(0, query) + part.slice(query).split('&').map(withoutValue).join('&');
  });
}

/** `name=value`, or what there is of it beside a placeholder. */
function withoutValue(parameter: string): string {
  const value = parameter.indexOf('=') + 1;
  return parameter.slice(0, value) + (value === parameter.length ? '' : '…');
}

function invalid(message: string): WorkerError {
  return new WorkerError('INVALID_TEMPLATE', `This is no address to warm. ${message}`, {
    exitCode: ExitCode.usage,
  });
}
