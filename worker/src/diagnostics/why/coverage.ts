/** Which invalidations reach a key. Pure; the meaning of a target is fences.ts's. */
import { deletionsFor, fencesOf } from '../../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { compileGlob } from '../../../../supabase/functions/_shared/cache/protocol/glob.ts';
import { typeOf } from '../../../../supabase/functions/_shared/cache/protocol/key-types.ts';

/**
 * Whether an invalidation of the target makes entries of the key unreadable.
 *
 * @throws CacheError INVALID_KEY when the key is none
 */
export function covers(target: string, key: string): boolean {
  const { keys, newEpoch, sweep } = deletionsFor(target);
  if (newEpoch) return true;
  if (sweep !== null && compileGlob(sweep).matches(key)) return true;
  const guards = new Set([key, ...fencesOf(key, typeOf(key)?.entity)]);
  return keys.some((name) => guards.has(name));
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
