/**
 * The epoch and the heartbeat: the fence of everything, and the sign that invalidations are being delivered.
 *
 *   E  fencepost:epoch       a random name, for ever. Every entry stands behind it, so ending it is `*`.
 *   H  fencepost:heartbeat   90 s. The epoch that a living worker vouches for; it is the one that Postgres knows.
 *
 *   an entry is a hit  iff  it was loaded under E (and its fences), and
 *                           either H is E and was E when the entry was loaded, or the entry is younger than degradedMaxAge
 *
 * Who does what:
 *
 *   worker, beat       GETEX H EX 90, and every tenth time GET E. Both are the epoch it knows: alive. Nothing, or
 *                      something else: it starts an epoch (unless Postgres has that one by now: another worker started it).
 *   worker, new epoch  a random e, in Postgres first; then SET E e and SET H e EX 90 in one transaction, whose reply
 *                      acknowledges `*`
 *   application, `*`   DEL E H, one command, whose reply acknowledges `*`. It makes nobody look alive; the worker
 *                      finds its heartbeat missing.
 *   reader, on a miss  where E is missing: SET E r NX with a random r, as with any fence that is missing (lease.ts)
 *
 * Invariants, and why they hold:
 *
 *   1. An epoch that has ended never comes back. Each value of E is random and written by one command that is sent once
 *      (rule 1), and only what stands can end. E is read by the MGET that reads the entry (rule 5). So what an
 *      acknowledged `*` has ended is a miss for ever, whether H lives, is lost or names something else, and however
 *      large degradedMaxAge is. Losing E costs misses and nothing else.
 *   2. H is E only from the first moment of an epoch on and without interruption. H is written together with a fresh E and never
 *      again for that epoch: GETEX renews what is there and brings nothing back. So whoever sees H = E knows that since the
 *      epoch began no 90 s went by without a worker that delivered invalidations.
 *   3. H and E do not stay apart. Only losing E (eviction, a hand) sets them apart; the worker finds that within ten beats.
 *      Until then entries are bounded by their age, as without a worker.
 *
 * An idle worker's beats are 95 040 commands in 30 days, below the 100 000 that the design allows. A Redis that has gone
 * back in time shows a heartbeat that is over or one that the worker does not know.
 *
 * Checked by tests/cache/interleavings.ts with the worker's own beats: both kinds of `*`, evictions of E and H, a heartbeat that
 * runs out, requests that are lost or late.
 */

/** The key of the epoch; a physical key has the cache's prefix in front of it. */
export const EPOCH_KEY = 'fencepost:epoch';

/** The heartbeat's key. */
export const HEARTBEAT_KEY = 'fencepost:heartbeat';

/** How long one beat lasts, in seconds: readers notice a dead worker at most this long after its last beat. */
export const HEARTBEAT_TTL_SECONDS = 90;

/** Time between two beats, in milliseconds: two may be lost before readers turn careful. */
export const HEARTBEAT_INTERVAL_MS = 30_000;

/** How old an answer may be while there is no heartbeat, in seconds, unless a call or a key type says otherwise. */
export const DEGRADED_MAX_AGE_SECONDS = 30;
