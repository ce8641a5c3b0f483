/** Which invalidations reach a key. Pure; what a target means is in cache/protocol/fences.ts. */
import { deletionsFor } from '../../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { compileGlob } from '../../../../supabase/functions/_shared/cache/protocol/glob.ts';

/**
 * Whether an invalidation of the target makes an entry of the key unreadable.
 *
 * @param fences the names of those that the entry stands behind
 */
export function covers(target: string, key: string, fences: readonly string[]): boolean {
  const { keys, newEpoch, sweep } = deletionsFor(target);
  if (newEpoch) return true;
  if (sweep !== null && compileGlob(sweep).matches(key)) return true;
  return keys.some((name) => name === key || fences.includes(name));
}

/** A segment as template_segments() of the migrations reads it: up to the next colon that is not in a quoted name. */
const SEGMENT = /^(?:\{(?:[^{}":.]+\.)?"(?:[^"]|"")+"\}[^:]*|[^:]*)/;

/**
 * The target that a row of a watched table would name if the columns in its template held what the key's segments say:
 * for quota:{org_id}:* and quota:acme:openai:gpt-5 it is quota:acme:*.
 */
export function targetFor(template: string, key: string): string {
  const segments = key.split(':');
  const target: string[] = [];
  for (let rest = template; ; ) {
    const [written = ''] = SEGMENT.exec(rest) ?? [];
    // A key that is shorter says nothing about the column; any value will do.
    target.push(written.startsWith('{') ? (segments[target.length] ?? '-') : written);
    if (written.length === rest.length) return target.join(':');
    rest = rest.slice(written.length + 1);
  }
}
