/**
 * Whether a cached value equals the database's. Instants are compared by the moment they mean, decimal numbers by their value, whether
 * they are text or number.
 */
export function isSame(cached: unknown, current: unknown): boolean {
  if (cached === current || (cached ?? null) === (current ?? null)) return true;
  if (Array.isArray(cached) && Array.isArray(current)) {
    return cached.length === current.length && cached.every((value, index) => isSame(value, current[index]));
  }
  if (isObject(cached) && isObject(current)) {
    // A field that one side leaves out and the other holds as null says the same.
    const names = new Set([...Object.keys(cached), ...Object.keys(current)]);
    return [...names].every((name) => isSame(cached[name], current[name]));
  }
  return isSameScalar(cached, current);
}

function isSameScalar(cached: unknown, current: unknown): boolean {
  const [a, b] = [plain(cached), plain(current)];
  return a !== null && a === b;
}

const INSTANT = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}/;
const DECIMAL = /^-?\d+(\.\d+)?$/;

function plain(value: unknown): string | null {
  const text = typeof value === 'number' ? String(value) : value;
  if (typeof text !== 'string') return null;
  if (INSTANT.test(text)) {
    const moment = Date.parse(text);
    return Number.isNaN(moment) ? text : `@${moment}`;
  }
  return DECIMAL.test(text) && text.includes('.') ? text.replace(/0+$/, '').replace(/\.$/, '') : text;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
