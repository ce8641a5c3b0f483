/**
 * A sweep: the invalidation of a glob that is no group of its own, such as `quota:*:openai:*`.
 *
 *   FENCES(cursor) ──▶ … ──▶ ENTRIES(cursor) ──▶ … ──▶ DONE
 *
 * The first pass deletes every entity fence under which a matching key may stand, whether such a key exists or is only being
 * loaded: deleting the fence is the invalidation. The second pass deletes the matching entries. It only saves memory, and their
 * number is what a sweep reports.
 *
 * - A fence covers a whole entity, so keys of that entity that do not match become misses too.
 * - A type's fence is deleted only if the glob matches the type's very name (`q*`, and a key could be called `quota`).
 * - The epoch and the heartbeat are never touched, nor is any key that is not a string.
 *
 * Promise: a key that matches and was loaded before the sweep began is unreadable after the first pass (docs/protocol.md#sweeps).
 *
 * One page is one SCAN and at most one DEL, and the state between pages is plain data. So a sweep can be put aside and resumed by
 * another process, which at worst repeats a page. The connection is the caller's; nothing here does I/O of its own.
 */

import { RESERVED_FIRST_SEGMENTS, scopeOfFence } from './fences.ts';
import { compileGlob, escapeGlob, type Glob } from './glob.ts';

/** Keys a SCAN is asked to look at; Upstash looks at no more than about a thousand. */
const PAGE_SIZE = 1_000;

/** What a sweep needs of Redis; keys are logical, and SCAN is limited to keys of type string. */
export interface SweepConnection {
  scan(cursor: string, glob: string, count: number): Promise<{ cursor: string; keys: string[] }>;
  /** One DEL; gives the number of keys that were there. */
  delete(keys: readonly string[]): Promise<number>;
}

export interface SweepState {
  readonly phase: 'fences' | 'entries' | 'done';
  readonly cursor: string;
  /** Entries deleted so far. */
  readonly deleted: number;
}

export const SWEEP_START: SweepState = { phase: 'fences', cursor: '0', deleted: 0 };

/** Does one page and gives the state after it; rejects as the connection does, and then the page may be repeated. */
export async function sweepPage(
  connection: SweepConnection,
  glob: string,
  state: SweepState,
): Promise<SweepState> {
  if (state.phase === 'done') return state;
  const compiled = compileGlob(glob);
  const match = state.phase === 'fences' ? fencesToScan(compiled) : glob;
  const page = await connection.scan(state.cursor, match, PAGE_SIZE);
  const doomed = page.keys.filter((key) =>
    state.phase === 'fences' ? guardsAMatch(compiled, key) : isEntry(key),
  );
  const gone = doomed.length === 0 ? 0 : await connection.delete(doomed);
  const deleted = state.deleted + (state.phase === 'entries' ? gone : 0);
  if (page.cursor !== '0') return { phase: state.phase, cursor: page.cursor, deleted };
  return { phase: state.phase === 'fences' ? 'entries' : 'done', cursor: '0', deleted };
}

/** A whole sweep; gives the number of entries deleted. */
export async function sweep(connection: SweepConnection, glob: string): Promise<number> {
  let state = SWEEP_START;
  while (state.phase !== 'done') state = await sweepPage(connection, glob, state);
  return state.deleted;
}

/** With a literal first segment only that type's fences need to be looked at. */
function fencesToScan({ literalStart }: Glob): string {
  const end = literalStart.indexOf(':');
  return end === -1 ? 'fence:*' : `fence:${escapeGlob(literalStart.slice(0, end))}:*`;
}

function guardsAMatch(glob: Glob, key: string): boolean {
  const scope = scopeOfFence(key);
  if (scope === null || scope.endsWith(':*')) return false;
  return glob.matches(scope) || (scope.includes(':') && glob.couldMatchFrom(`${scope}:`));
}

function isEntry(key: string): boolean {
  return !RESERVED_FIRST_SEGMENTS.has(key.split(':', 1)[0] ?? '');
}
