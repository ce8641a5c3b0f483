/**
 * Takes a request's parameters: from the query of a GET, from the flat JSON object that a POST carries. Both give the same
 * thing, a map of names to strings, numbers, booleans or null, or a problem that names the field.
 *
 * What is refused, and why: a name given twice (two readers of the same request would each pick another one), names nobody
 * asked for (a misspelt `cached_tokens` would silently be 0), nested values (nothing here needs them, and depth is what
 * attacks parsers), control characters and lone surrogates (no identifier has them, logs and keys suffer), anything long.
 */
import { Problem } from './problem.ts';

/** A body of flat parameters is far smaller; what is larger is not read to the end. */
export const MAX_BODY_BYTES = 16_384;
/** Longest identifier accepted, in UTF-16 units. Model and session names are a tenth of it. */
export const MAX_IDENTIFIER_LENGTH = 512;
/** Up to 15 digits: every such number and any sum of a few is exact in JSON and in JavaScript. */
const COUNT = /^(?:0|[1-9]\d{0,14})$/;

// biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is the purpose.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]/u;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** What supabase-js puts into the address for a caller who chooses a region, of a POST too: for the platform, not for us. */
const REGION_OF_SUPABASE_JS = 'forceFunctionRegion';

type Scalar = string | number | boolean | null;

/** Parameters of one request, each asked for by name and checked as it is taken. */
export class Parameters {
  readonly #values: ReadonlyMap<string, Scalar>;

  constructor(values: ReadonlyMap<string, Scalar>) {
    this.#values = values;
  }

  /** @throws Problem INVALID_PARAMETER for the first name that is not in `known`. */
  allowOnly(known: readonly string[]): void {
    for (const name of this.#values.keys()) {
      if (known.includes(name)) continue;
      throw invalid(harmless(name), `Unknown parameter. This function takes: ${known.join(', ') || 'none'}.`);
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
    // Date.parse accepts the 31st of February and moves it: the day must come back as it went in.
    const parsed = parts === null ? Number.NaN : Date.parse(`${value}T00:00:00Z`);
    const same = !Number.isNaN(parsed) && new Date(parsed).toISOString().slice(0, 10) === value;
    if (!same || Number(parts?.[1]) < 2000 || Number(parts?.[1]) > 2100) {
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
  const query = fromQuery(new URL(request.url).searchParams);
  if (request.method !== 'POST') return new Parameters(query);
  const [stray] = query.keys();
  if (stray !== undefined) {
    throw invalid('query', 'A POST takes its parameters from the JSON body alone; leave the query empty.');
  }
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type === 'application/json') return new Parameters(parseFlatObject(await readText(request)));
  // Neither a type nor a body: that is how supabase-js invokes a function without parameters.
  if (type === undefined && (await readText(request)) === '') return new Parameters(new Map());
  throw new Problem('UNSUPPORTED_MEDIA_TYPE', 'Send the parameters as application/json.');
}

function fromQuery(query: URLSearchParams): Map<string, Scalar> {
  const values = new Map<string, Scalar>();
  for (const [name, value] of query) {
    if (name === REGION_OF_SUPABASE_JS) continue;
    if (values.has(name)) throw invalid(harmless(name), 'Give each parameter once.');
    values.set(name, value);
  }
  return values;
}

/** The body as text, read no further than the limit: a declared length may lie. */
async function readText(request: Request): Promise<string> {
  const tooLarge = new Problem('BODY_TOO_LARGE', `The body may have at most ${MAX_BODY_BYTES} bytes.`);
  if (Number(request.headers.get('content-length') ?? 0) > MAX_BODY_BYTES) throw tooLarge;
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = request.body?.getReader();
  for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
    size += part.value.byteLength;
    if (size > MAX_BODY_BYTES) {
      await reader?.cancel();
      throw tooLarge;
    }
    chunks.push(part.value);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Problem('INVALID_BODY', 'The body is not UTF-8.', { cause });
  }
}

/** A JSON object whose values are all scalars, with no name twice. The depth is bounded before the parser sees it. */
function parseFlatObject(text: string): Map<string, Scalar> {
  const names = namesAtTopLevel(text);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new Problem('INVALID_BODY', 'The body is not valid JSON.', { cause });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new Problem('INVALID_BODY', 'The body must be a JSON object.');
  }
  // Object.entries reads own members only: a member called __proto__ is just an unknown parameter.
  const values = new Map(Object.entries(parsed as Record<string, Scalar>));
  if (values.size !== names) throw new Problem('INVALID_BODY', 'Give each parameter once.');
  return values;
}

/** Counts an object's names; @throws Problem INVALID_BODY where anything is nested. */
function namesAtTopLevel(text: string): number {
  let depth = 0;
  let names = 0;
  let isInString = false;
  // By hand and not by a pattern: each character is looked at once, also where a string never ends.
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

/** A name as it may be repeated in an answer: it is untrusted input, and goes back only if it is harmless. */
function harmless(name: string): string {
  return /^[\w-]{1,40}$/.test(name) ? name : 'unknown';
}

function invalid(field: string, detail: string): Problem {
  return new Problem('INVALID_PARAMETER', detail, { field });
}
