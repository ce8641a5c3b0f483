/**
 * Reads a request's parameters: from the query of a GET, or from the flat JSON object in the body of a POST. Either way the result
 * is a map of names to scalars, or a problem that names the field.
 *
 * Refused:
 * - a name given twice, because two readers of one request could each use another value;
 * - unknown names, because a misspelt `cached_tokens` would silently count as 0;
 * - nested values, because no function takes one and deep nesting attacks parsers;
 * - control characters and lone surrogates in identifiers, because they would end up in logs and keys;
 * - identifiers of more than 512 characters and bodies of more than 16 384 bytes.
 */
import { Problem } from './problem.ts';

/** Real parameters take a few hundred bytes. Reading stops at this size. */
export const MAX_BODY_BYTES = 16_384;
/** In UTF-16 units. Names of models and sessions have about 50. */
const MAX_IDENTIFIER_LENGTH = 512;
/** Up to 15 digits: JSON and JavaScript hold each such number, and the sum of nine of them, exactly. */
const COUNT = /^(?:0|[1-9]\d{0,14})$/;

// biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is the purpose.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]/u;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** supabase-js adds it to the address, of a POST too, when the caller chooses a region. The platform reads it; this module skips it. */
const REGION_OF_SUPABASE_JS = 'forceFunctionRegion';

type Scalar = string | number | boolean | null;

/** The parameters of one request. Each is checked when it is read. */
export class Parameters {
  readonly #values: ReadonlyMap<string, Scalar>;

  constructor(values: ReadonlyMap<string, Scalar>) {
    this.#values = values;
  }

  /** @throws Problem INVALID_PARAMETER for the first name that is not in `known` */
  allowOnly(known: readonly string[]): void {
    for (const name of this.#values.keys()) {
      if (known.includes(name)) continue;
      throw invalid(safeName(name), `Unknown parameter. This function takes: ${known.join(', ') || 'none'}.`);
    }
  }

  /** An identifier: non-empty text without control characters. @throws Problem INVALID_PARAMETER */
  identifier(name: string): string {
    const value = this.optionalIdentifier(name);
    if (value === undefined) throw invalid(name, `Give ${name}.`);
    return value;
  }

  /** As identifier(), or undefined where it is absent. @throws Problem INVALID_PARAMETER */
  optionalIdentifier(name: string): string | undefined {
    const value = this.#values.get(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw invalid(name, `${name} must be text.`);
    if (value === '') throw invalid(name, `${name} must not be empty.`);
    if (value.length > MAX_IDENTIFIER_LENGTH) {
      throw invalid(name, `${name} must be at most ${MAX_IDENTIFIER_LENGTH} characters long.`);
    }
    if (UNPRINTABLE.test(value) || LONE_SURROGATE.test(value)) {
      throw invalid(name, `${name} must not contain control characters or broken Unicode.`);
    }
    return value;
  }

  /** A whole number from 0 to 999 999 999 999 999. @throws Problem INVALID_PARAMETER */
  count(name: string, fallback?: number): number {
    const value = this.#values.get(name);
    if (value === undefined && fallback !== undefined) return fallback;
    if (value === undefined) throw invalid(name, `Give ${name}.`);
    const text = typeof value === 'number' ? String(value) : value;
    if (typeof text !== 'string' || !COUNT.test(text)) {
      throw invalid(name, `${name} must be a whole number from 0 to 999999999999999.`);
    }
    return Number(text);
  }

  /** A calendar day as YYYY-MM-DD, from 2000 to 2100. @throws Problem INVALID_PARAMETER */
  date(name: string): string {
    const value = this.#values.get(name);
    if (value === undefined) throw invalid(name, `Give ${name} as YYYY-MM-DD.`);
    const parts = typeof value === 'string' ? /^(\d{4})-(\d{2})-(\d{2})$/.exec(value) : null;
    // Date.parse turns February 31 into March 3, so a day is valid only if it is printed as it was given.
    const parsed = parts === null ? Number.NaN : Date.parse(`${value}T00:00:00Z`);
    const isSame = !Number.isNaN(parsed) && new Date(parsed).toISOString().slice(0, 10) === value;
    if (!isSame || Number(parts?.[1]) < 2000 || Number(parts?.[1]) > 2100) {
      throw invalid(name, `${name} must be a calendar day, YYYY-MM-DD, from 2000 to 2100.`);
    }
    return String(value);
  }
}

/**
 * Reads the parameters of a GET, HEAD or POST request.
 * @throws Problem INVALID_PARAMETER, INVALID_BODY, BODY_TOO_LARGE or UNSUPPORTED_MEDIA_TYPE
 */
export async function readParameters(request: Request): Promise<Parameters> {
  const query = parseQuery(new URL(request.url).searchParams);
  if (request.method !== 'POST') return new Parameters(query);
  if (query.size > 0) {
    throw invalid('query', 'A POST takes its parameters from the JSON body alone; leave the query empty.');
  }
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type === 'application/json') return new Parameters(parseFlatObject(await readText(request)));
  // supabase-js invokes a function without parameters by a POST with neither type nor body.
  if (type === undefined && (await readText(request)) === '') return new Parameters(new Map());
  throw new Problem('UNSUPPORTED_MEDIA_TYPE', 'Send the parameters as application/json.');
}

function parseQuery(query: URLSearchParams): Map<string, Scalar> {
  const values = new Map<string, Scalar>();
  for (const [name, value] of query) {
    if (name === REGION_OF_SUPABASE_JS) continue;
    if (values.has(name)) throw invalid(safeName(name), 'Give each parameter once.');
    values.set(name, value);
  }
  return values;
}

/** The body as text. Counts the bytes itself, because the declared length may be wrong, and stops at the limit. */
async function readText(request: Request): Promise<string> {
  const tooLarge = new Problem('BODY_TOO_LARGE', `The body may have at most ${MAX_BODY_BYTES} bytes.`);
  if (Number(request.headers.get('content-length') ?? 0) > MAX_BODY_BYTES) throw tooLarge;
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    // Leaving the loop cancels the stream.
    if (size > MAX_BODY_BYTES) throw tooLarge;
    chunks.push(chunk);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await new Blob(chunks).arrayBuffer());
  } catch (cause) {
    throw new Problem('INVALID_BODY', 'The body is not UTF-8.', { cause });
  }
}

/** Parses a JSON object whose values are all scalars. JSON.parse keeps the last of two equal names, so they are counted before. */
function parseFlatObject(text: string): Map<string, Scalar> {
  const names = countNames(text);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new Problem('INVALID_BODY', 'The body is not valid JSON.', { cause });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new Problem('INVALID_BODY', 'The body must be a JSON object.');
  }
  // Object.entries reads own members only, so `__proto__` is an ordinary unknown name.
  const values = new Map(Object.entries(parsed as Record<string, Scalar>));
  if (values.size !== names) throw new Problem('INVALID_BODY', 'Give each parameter once.');
  return values;
}

/**
 * Counts the names of a flat object, before the parser sees the text. It looks at each character once; a regular expression could
 * take quadratic time on a string without an end.
 * @throws Problem INVALID_BODY where a value is nested
 */
function countNames(text: string): number {
  let depth = 0;
  let names = 0;
  let isInString = false;
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index];
    if (isInString && character === '\\') index += 1;
    else if (character === '"') isInString = !isInString;
    if (isInString) continue;
    if (character === '{' || character === '[') depth += 1;
    else if (character === '}' || character === ']') depth -= 1;
    else if (character === ':') names += 1;
    if (depth > 1) throw new Problem('INVALID_BODY', 'Parameters are not nested: give text or numbers.');
  }
  return names;
}

/** A name that an answer may repeat. Names are untrusted, so any unusual one becomes `unknown`. */
function safeName(name: string): string {
  return /^[\w-]{1,40}$/.test(name) ? name : 'unknown';
}

function invalid(field: string, detail: string): Problem {
  return new Problem('INVALID_PARAMETER', detail, { field });
}
