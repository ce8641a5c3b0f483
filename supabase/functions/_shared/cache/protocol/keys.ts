/**
 * Keys, built so that readers and triggers write the same bytes for the same thing, and two things never share a key.
 *
 * A key is segments joined by `:`. The rules below are implemented here and in SQL (…_fencepost_encoding.sql), byte for byte alike.
 * tests/capture/encoding.test.ts compares the two.
 *
 * Canonical form, by the type of the segment's column (before encoding):
 *   text      as it is; no trimming, no case folding, no Unicode normalisation. '' is a segment like any other.
 *   uuid      36 characters, lower case, hyphenated. A reader may pass upper case or 32 hexadecimal digits.
 *   boolean   `true` or `false`.
 *   integer   decimal without sign for zero and above, `-` in front below zero, no leading zeros: `0`, `42`, `-7`.
 *   numeric   as integer, then, only if the fraction is not zero, `.` and its digits without trailing zeros: `0`, `-1.5`, `0.05`.
 *             Never an exponent. A reader may pass 1e21 or '1.50'; 1.5 and 1.50 are one key. At most 1 000 digits on either side
 *             of the point, and neither NaN nor Infinity.
 *   date      `YYYY-MM-DD`, years 0001 to 9999. A reader's Date object stands for its date in UTC.
 *   instant   UTC, `YYYY-MM-DDTHH:MM:SS`, then, only if the fraction is not zero, `.` and up to six digits without
 *             trailing zeros, then `Z`: `2026-11-01T10:00:00Z`, `2026-11-01T10:00:00.25Z`, `2026-11-01T10:00:00.000001Z`.
 *             A reader's string must carry `Z` or an offset (`+02`, `+02:00`, `+0200`) and at most six digits.
 *
 * Encoding, applied to the canonical form's UTF-8 bytes:
 *   1. A lone surrogate or NUL is INVALID_KEY (Postgres cannot hold either in text).
 *   2. More than 200 bytes (raw, before percent-encoding): `~` and the lower-case hexadecimal SHA-256 of those bytes.
 *   3. Otherwise `A-Z a-z 0-9 - _ . ! ' ( )` stand for themselves; every other byte is `%` and two UPPER-case
 *      hexadecimal digits. That is encodeURIComponent plus `*` (%2A) and `~` (%7E).
 * So `:` only separates, `*` is only ever a pattern's own, and a hash cannot be imitated by a value that starts with `~`.
 */
import { CacheError } from './errors.ts';
import {
  type CompiledType,
  compileTypes,
  type KeyTypes,
  type SegmentType,
  type SegmentValues,
} from './key-types.ts';
import { sha256 } from './sha256.ts';

const HASHED_ABOVE_BYTES = 200;
const utf8 = new TextEncoder();

/**
 * One variable segment as it stands in a key.
 * @param value the canonical text of the segment
 * @throws CacheError INVALID_KEY for lone surrogates and NUL
 */
export function encodeSegment(value: string): string {
  if (typeof value !== 'string') throw invalid('a key segment must be a string');
  if (value.includes('\0')) throw invalid('a key segment holds NUL, which no Postgres text can');
  let encoded: string;
  try {
    encoded = encodeURIComponent(value).replaceAll('*', '%2A').replaceAll('~', '%7E');
  } catch (cause) {
    throw invalid('a key segment holds half of a surrogate pair', cause);
  }
  // Encoding never shortens, so only a long result needs the raw bytes counted.
  if (encoded.length <= HASHED_ABOVE_BYTES) return encoded;
  const bytes = utf8.encode(value);
  return bytes.length > HASHED_ABOVE_BYTES ? `~${sha256(bytes)}` : encoded;
}

type Arguments<Template extends string> = string extends Template
  ? unknown[]
  : Template extends `${string}{${infer Inside}}${infer Rest}`
    ? [
        Inside extends `${string}:${infer Type extends SegmentType}` ? SegmentValues[Type] : string,
        ...Arguments<Rest>,
      ]
    : [];

/** A builder for each type: it takes the template's variable segments in order and gives the key. */
export type KeyBuilders<Types extends KeyTypes> = {
  readonly [Name in keyof Types]: (...segments: Arguments<Types[Name]['key']>) => string;
};

/**
 * The builders of an application's keys: `keys.quota(org, provider, model)`, `keys.session(id)`, and so on. A builder throws
 * INVALID_KEY for a segment that no row could hold (a malformed uuid or date, NUL).
 * @throws CacheError INVALID_CONFIGURATION naming the type that cannot work
 */
export function keyBuilders<const Types extends KeyTypes>(types: Types): KeyBuilders<Types> {
  const builders = compileTypes(types).map((type) => [
    type.name,
    (...values: unknown[]) => buildKey(type, values),
  ]);
  return Object.fromEntries(builders) as KeyBuilders<Types>;
}

function buildKey(type: CompiledType, values: readonly unknown[]): string {
  let next = 0;
  const key = type.segments
    .map((segment) =>
      'literal' in segment
        ? segment.literal
        : encodeSegment(canonicalSegment(segment.type, values[next++], `keys.${type.name}: ${segment.name}`)),
    )
    .join(':');
  if (values.length !== next) throw invalid(`keys.${type.name} takes ${next} segments, not ${values.length}`);
  return key;
}

/**
 * A value in the canonical form of its segment type; the rules stand at the top of this file.
 * @param label names the segment in errors, such as `keys.usage: start`
 * @throws CacheError INVALID_KEY when the value has no canonical form; the message does not repeat the value
 */
export function canonicalSegment(type: SegmentType, value: unknown, label: string): string {
  switch (type) {
    case 'text':
      if (typeof value !== 'string') throw invalid(`${label} must be a string`);
      return value;
    case 'uuid':
      return canonicalUuid(value, label);
    case 'boolean':
      return canonicalBoolean(value, label);
    case 'integer':
      return canonicalInteger(value, label);
    case 'numeric':
      return canonicalNumeric(value, label);
    case 'date':
      return canonicalDate(value, label);
    case 'instant':
      return canonicalInstant(value, label);
  }
}

function canonicalUuid(value: unknown, label: string): string {
  const digits = typeof value === 'string' ? value.replaceAll('-', '').toLowerCase() : '';
  const shaped =
    typeof value === 'string' && (value.length === 32 || /^.{8}-.{4}-.{4}-.{4}-.{12}$/.test(value));
  if (!shaped || !/^[0-9a-f]{32}$/.test(digits)) throw invalid(`${label} must be a uuid`);
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function canonicalBoolean(value: unknown, label: string): string {
  if (typeof value === 'boolean' || value === 'true' || value === 'false') return String(value);
  throw invalid(`${label} must be true or false`);
}

function canonicalInteger(value: unknown, label: string): string {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value).toString();
  if (typeof value === 'string' && /^[+-]?[0-9]{1,100}$/.test(value))
    return BigInt(value.replace('+', '')).toString();
  throw invalid(`${label} must be an integer (as a bigint or a string above 2^53)`);
}

const NUMERIC = /^([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[Ee]([+-]?[0-9]{1,4}))?$/;
const MOST_DIGITS = 1_000;

/** As trim_scale(value)::text of Postgres, which has neither an exponent nor a negative zero. */
function canonicalNumeric(value: unknown, label: string): string {
  const text = typeof value === 'number' || typeof value === 'bigint' ? String(value) : value;
  const match = typeof text === 'string' ? NUMERIC.exec(text) : null;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match ?? [];
  // How many digits stand before the point; below 0, or more than there are, where zeros are missing.
  const digits = whole + fraction;
  const point = whole.length + Number(exponent);
  if (digits === '' || Math.max(digits.length, digits.length - point, point) > MOST_DIGITS) {
    throw invalid(`${label} must be a decimal number of at most ${MOST_DIGITS} digits, such as 1.50`);
  }
  const before = digits.slice(0, Math.max(0, point)).padEnd(point, '0').replace(/^0+/, '') || '0';
  const after = (point < 0 ? '0'.repeat(-point) + digits : digits.slice(point)).replace(/0+$/, '');
  const magnitude = after === '' ? before : `${before}.${after}`;
  return sign === '-' && magnitude !== '0' ? `-${magnitude}` : magnitude;
}

function canonicalDate(value: unknown, label: string): string {
  const date =
    value instanceof Date && !Number.isNaN(value.getTime()) ? value.toISOString().slice(0, 10) : value;
  const match = typeof date === 'string' ? /^([0-9]{4})-([0-9]{2})-([0-9]{2})$/.exec(date) : null;
  if (match === null || match[1] === '0000' || !existsInCalendar(match[0])) {
    throw invalid(`${label} must be a date such as 2026-11-01`);
  }
  return match[0];
}

const INSTANT =
  /^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,6}))?([Zz]|[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9])?)$/;

function canonicalInstant(value: unknown, label: string): string {
  const text = value instanceof Date && !Number.isNaN(value.getTime()) ? value.toISOString() : value;
  const match = typeof text === 'string' ? INSTANT.exec(text) : null;
  const [, date = '', hour, minute, second, fraction = '', zone = ''] = match ?? [];
  if (match === null || !existsInCalendar(date)) {
    throw invalid(`${label} must be an instant with its offset, such as 2026-11-01T10:00:00Z`);
  }
  // The offset moves whole minutes, so the fraction is carried over as text: a Date would cut it to milliseconds.
  const utc = new Date(Date.parse(`${date}T${hour}:${minute}:${second}Z`) - offsetMinutes(zone) * 60_000);
  const canonical = utc.toISOString().slice(0, 19);
  if (!/^[0-9]{4}-/.test(canonical) || canonical.startsWith('0000'))
    throw invalid(`${label} must be in years 0001 to 9999`);
  const digits = fraction.replace(/0+$/, '');
  return `${canonical}${digits === '' ? '' : `.${digits}`}Z`;
}

function offsetMinutes(zone: string): number {
  if (zone === 'Z' || zone === 'z') return 0;
  const digits = zone.slice(1).replace(':', '');
  const minutes = Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2) || 0);
  return zone.startsWith('-') ? -minutes : minutes;
}

/** Whether `YYYY-MM-DD` names a day: JavaScript would turn 30 February into 1 March. */
function existsInCalendar(date: string): boolean {
  const time = Date.parse(`${date}T00:00:00Z`);
  return !Number.isNaN(time) && new Date(time).toISOString().slice(0, 10) === date;
}

function invalid(message: string, cause?: unknown): CacheError {
  return new CacheError('INVALID_KEY', `${message}.`, cause === undefined ? undefined : { cause });
}
