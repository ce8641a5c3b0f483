/**
 * Reads through the cache without giving anyone more than the database would.
 *
 * What could go wrong under a key that several people share, and what prevents it:
 * - A stranger hits what a member stored. So every read of an organisation's answer asks for the caller's membership too, in
 *   the same MGET, and a hit counts only when the membership is one as well. Membership entries are invalidated by writes to
 *   org_members and never served while the worker is down, so that someone who is removed is out at once.
 * - A stranger's load stores "nothing" where the organisation has an answer. So a load brings verdict and value from one
 *   snapshot, and only an authorised answer is stored; a refusal is an error, which no cache keeps.
 * - A stranger's refusal becomes the answer of a member who waited for the same load. So loads are shared only between calls of
 *   the same identity.
 * - The load sees the row as it was before a write, and is stored after it. The cache's fences see to that, provided that the
 *   load begins after the cache has confirmed them: loaders here are called by the cache, never started before it.
 */
import { type Cache, keys, type Outcome } from '../cache.ts';
import type { CacheHeader, Timing } from '../http/endpoint.ts';
import { Problem } from '../http/problem.ts';
import type { Caller } from './authenticate.ts';
import type { Database, Question } from './database.ts';

/** An answer and where it came from. */
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
 * An answer that every member of an organisation may see, and nobody else.
 * @param key the answer's key; its load is `question`, which returns a verdict
 * @throws Problem NOT_A_MEMBER, and whatever the database's question throws
 */
export async function readForOrganisation(
  context: ReadContext,
  organisation: string,
  key: string,
  question: Parameters<Database['ask']>[1],
): Promise<Read<unknown>> {
  const { cache, caller, timing } = context;
  const ask = () => timing.measure('db', () => context.database.ask(caller, question));

  // Row-level security does not bind the service, and it has no membership to look up.
  if (caller.kind === 'service') {
    const outcomes = new Outcomes();
    const load = async () => (await judged(ask)).value;
    const value = await timing.measure('read', () =>
      cache.getOrSet(key, load, undefined, outcomes.options(caller)),
    );
    return { value, cache: outcomes.header() };
  }

  const userId = signedIn(caller).userId;
  const memberKey = keys.member(organisation, userId);
  const outcomes = new Outcomes();
  const load = async (missing: readonly string[]) => {
    const verdict = await judged(ask);
    if (verdict.member === null) throw notAMember();
    const found = new Map<string, unknown>([
      [key, verdict.value],
      [memberKey, verdict.member],
    ]);
    return new Map([...found].filter(([name]) => missing.includes(name)));
  };
  const values = await timing.measure('read', () =>
    cache.getOrSetMany([key, memberKey], load, undefined, outcomes.options(caller)),
  );
  // Nothing but a membership that was found opens the door, whatever else may have gone wrong.
  const member = values.get(memberKey);
  if (typeof member !== 'object' || member === null) throw notAMember();
  return { value: values.get(key), cache: outcomes.header() };
}

/**
 * An answer that belongs to one user: a session, preferences.
 * @param load the row as this caller sees it, null where there is none for them
 * @param isOwn whether a row (or its absence, null) is the caller's to see
 * @returns null where there is nothing for this caller; they cannot tell whether it exists for someone else
 */
export async function readOwn<T extends object>(
  context: ReadContext,
  key: string,
  question: (client: Parameters<Parameters<Database['ask']>[1]>[0]) => Question,
  options: { readonly isOwn: (row: T) => boolean; readonly storeAbsence: boolean },
): Promise<Read<T | null>> {
  const { cache, caller, timing } = context;
  const outcomes = new Outcomes();
  const ask = async () =>
    (await timing.measure('db', () => context.database.ask(caller, question))) as T | null;
  const load = async () => {
    const loaded = await ask();
    if (loaded === null && !options.storeAbsence) throw new NothingToStore();
    return loaded;
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
    // Cached, but someone else's. The database is asked as if nothing were cached, so that a stranger gets the same answer and
    // the same headers as where nothing is. (How long it takes still differs by the round trips of a fence.)
    return { value: await ask(), cache: 'MISS' };
  });
}

/** An answer that is the same for every signed-in caller. @param load answers null where there is none; that is kept briefly. */
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

/** Names that do not exist can be made up without end: their absence is kept for a minute only. */
const ABSENCE_SECONDS = 60;

/** The caller, if signed in or the service. @throws Problem TOKEN_INVALID for a public key, which is nobody's */
export function signedIn(caller: Caller): Extract<Caller, { kind: 'user' }> {
  if (caller.kind === 'user') return caller;
  throw new Problem('TOKEN_INVALID', 'This needs a signed-in user; a public key alone is nobody.', {
    headers: { 'www-authenticate': 'Bearer' },
  });
}

/** @throws Problem NOT_A_MEMBER unless the database said that the caller may */
async function judged(ask: () => Promise<unknown>): Promise<Verdict> {
  const verdict = (await ask()) as Verdict | null;
  if (verdict?.authorised !== true) throw notAMember();
  return verdict;
}

function notAMember(): Problem {
  return new Problem('NOT_A_MEMBER', 'You are not a member of this organisation.');
}

/** Thrown by a loader that found nothing for this caller: an error is the one outcome that no cache stores. */
class NothingToStore extends Error {}

/** Gathers what the cache did for one request. A composite read is a hit only when all of it was. */
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
