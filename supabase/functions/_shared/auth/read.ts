/**
 * Reads through the cache, and gives nobody more than the database would.
 *
 * What could go wrong with a key that several people share, and what prevents it:
 * - A non-member hits an answer that a member's load stored. So a read for an organisation also reads the caller's membership, in the
 *   same MGET, and is a hit only if both are. Writes to org_members invalidate membership entries, and those are never served
 *   while no worker is alive. So a removed member loses access within milliseconds, or within the 90 s of the heartbeat if the worker
 *   dies at that moment.
 * - A non-member's load stores "no row" where the organisation has an answer. So a load returns verdict and value from one snapshot,
 *   and only an authorised answer is stored. A refusal is an error, and errors are never cached.
 * - A member waits for a non-member's load and gets the refusal. So only calls of one identity share a load.
 * - A load reads a row before a write and is stored after it. The fences prevent that, provided that the load starts after the cache
 *   has read them. So loaders are passed to the cache here and never started before it.
 */
import { type Cache, keys, type Outcome } from '../cache.ts';
import type { CacheHeader, Timing } from '../http/endpoint.ts';
import { Problem } from '../http/problem.ts';
import type { Caller } from './authenticate.ts';
import type { BuildQuery, Database } from './database.ts';

/** A value and where it came from. */
export interface Read<T> {
  readonly value: T;
  readonly cache: CacheHeader;
}

/** What the answer functions of the database return. */
interface Verdict {
  readonly authorised: boolean;
  readonly member: { readonly role: string } | null;
  readonly value: unknown;
}

export interface ReadContext {
  readonly cache: Cache;
  readonly database: Database;
  readonly caller: Caller;
  readonly timing: Timing;
}

/**
 * Reads an answer that every member of an organisation may see, and nobody else.
 * @param key the answer's key; `build` builds the query that loads it, which returns a verdict
 * @throws Problem NOT_A_MEMBER, and what the query throws
 */
export async function readForOrganisation(
  context: ReadContext,
  organisation: string,
  key: string,
  build: BuildQuery,
): Promise<Read<unknown>> {
  const { cache, caller, timing } = context;
  const outcomes = new Outcomes();
  const loadAuthorised = async () =>
    authorised(await timing.measure('db', () => context.database.query(caller, build)));

  // Row-level security does not apply to the service, and the service has no membership.
  if (caller.kind === 'service') {
    const load = async () => (await loadAuthorised()).value;
    const value = await timing.measure('read', () =>
      cache.getOrSet(key, load, undefined, outcomes.options(caller)),
    );
    return { value, cache: outcomes.header() };
  }

  const memberKey = keys.member(organisation, requireUser(caller).userId);
  const load = async (missing: readonly string[]) => {
    const verdict = await loadAuthorised();
    if (verdict.member === null) throw notAMember();
    const loaded = new Map<string, unknown>([
      [key, verdict.value],
      [memberKey, verdict.member],
    ]);
    return new Map([...loaded].filter(([name]) => missing.includes(name)));
  };
  const values = await timing.measure('read', () =>
    cache.getOrSetMany([key, memberKey], load, undefined, outcomes.options(caller)),
  );
  // Access needs a membership that was found; an absent or malformed one is a refusal.
  const member = values.get(memberKey);
  if (typeof member !== 'object' || member === null) throw notAMember();
  return { value: values.get(key), cache: outcomes.header() };
}

/**
 * Reads a row that belongs to one user, such as a session.
 * @param options.isOwn whether the caller may see a cached row
 * @param options.storeAbsence whether "no row" is true for everybody, and so may be cached
 * @returns null where there is nothing for this caller; it does not reveal whether there is something for somebody else
 */
export async function readOwn<T extends object>(
  context: ReadContext,
  key: string,
  build: BuildQuery,
  options: { readonly isOwn: (row: T) => boolean; readonly storeAbsence: boolean },
): Promise<Read<T | null>> {
  const { cache, caller, timing } = context;
  const outcomes = new Outcomes();
  const query = async () =>
    (await timing.measure('db', () => context.database.query(caller, build))) as T | null;
  const load = async () => {
    const row = await query();
    if (row === null && !options.storeAbsence) throw new NothingToStore();
    return row;
  };
  return timing.measure('read', async () => {
    try {
      const row = await cache.getOrSet<T | null>(key, load, undefined, outcomes.options(caller));
      if (row === null || caller.kind === 'service' || options.isOwn(row))
        return { value: row, cache: outcomes.header() };
    } catch (error) {
      if (error instanceof NothingToStore) return { value: null, cache: outcomes.header() };
      throw error;
    }
    // The cached row is somebody else's. The database is queried as after a miss, so that body and headers are those of a row that
    // does not exist. The duration still differs, by the round trips that create a fence.
    return { value: await query(), cache: 'MISS' };
  });
}

/** Reads an answer that is the same for every signed-in caller. @param load gives null where there is none */
export async function readShared<T>(
  context: ReadContext,
  key: string,
  load: () => Promise<T>,
): Promise<Read<T>> {
  const outcomes = new Outcomes();
  const measured = () => context.timing.measure('db', load);
  const options = { ...outcomes.options(context.caller), negativeTtl: ABSENCE_SECONDS };
  const value = await context.timing.measure('read', () =>
    context.cache.getOrSet<T>(key, measured, undefined, options),
  );
  return { value, cache: outcomes.header() };
}

/** How long an absent name stays cached. It is short, because a caller can make up any number of names. */
const ABSENCE_SECONDS = 60;

/** The caller as a signed-in user. @throws Problem TOKEN_INVALID for all others */
export function requireUser(caller: Caller): Extract<Caller, { kind: 'user' }> {
  if (caller.kind === 'user') return caller;
  throw new Problem('TOKEN_INVALID', 'This needs a signed-in user; a public key alone is nobody.', {
    headers: { 'www-authenticate': 'Bearer' },
  });
}

/** @throws Problem NOT_A_MEMBER unless the database has authorised the caller */
function authorised(reply: unknown): Verdict {
  const verdict = reply as Verdict | null;
  if (verdict?.authorised !== true) throw notAMember();
  return verdict;
}

function notAMember(): Problem {
  return new Problem('NOT_A_MEMBER', 'You are not a member of this organisation.');
}

/** Thrown by a loader that found no row for this caller. An error, because errors are never cached. */
class NothingToStore extends Error {}

/** Collects what the cache did for one request. A read of several keys is a hit only if all of them were. */
class Outcomes {
  readonly #seen = new Set<Outcome>();

  options(caller: Caller): { identity: string; onOutcome: (key: string, outcome: Outcome) => void } {
    return {
      identity: caller.kind === 'user' ? caller.userId : caller.kind,
      onOutcome: (_key, outcome) => this.#seen.add(outcome),
    };
  }

  header(): CacheHeader {
    if (this.#seen.has('disabled') || this.#seen.has('bypass')) return 'BYPASS';
    if (this.#seen.has('miss') || this.#seen.size === 0) return 'MISS';
    return this.#seen.has('stale') ? 'STALE' : 'HIT';
  }
}
