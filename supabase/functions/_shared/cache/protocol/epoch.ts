/**
 * The epoch and the heartbeat: the fence of everything, and the sign that invalidations are being delivered.
 *
 *   E  fencepost:epoch       a random name, for ever. Every entry stands behind it, so ending it is `*`.
 *   H  fencepost:heartbeat   90 s. The epoch that a living worker vouches for; Postgres knows it too.
 *
 * An entry is a hit if it was loaded under E (and its fences), and either H is E and was E when the entry was loaded, or the entry is
 * younger than degradedMaxAge.
 *
 *   worker, beat       GETEX H EX 90, and every tenth time GET E. If both are the epoch that it knows, it goes on. Otherwise it
 *                      starts an epoch, unless Postgres names that one by now: then another worker has started it.
 *   worker, new epoch  a random e, in Postgres first; then SET E e and SET H e EX 90 in one transaction, whose reply
 *                      acknowledges `*`
 *   application, `*`   DEL E H, one command, whose reply acknowledges `*`; the worker finds its heartbeat missing
 *   reader, on a miss  if E is missing: SET E r NX GET with a random r, as for any missing fence (key-states.ts)
 *
 * Promises; docs/protocol.md#epoch-and-heartbeat has the proofs:
 *
 *   1. An epoch that has ended never comes back. Losing E costs misses and nothing else.
 *   2. H equals E only while, since that epoch began, no 90 s went by without a worker that delivered invalidations.
 *   3. H and E do not stay apart: the worker finds a lost E within ten beats. Until then entries are bounded by their age.
 *
 * An idle worker's beats are 95 040 commands in 30 days, below the limit of 100 000.
 */

/** The key of the epoch; a physical key has the cache's prefix in front of it. */
export const EPOCH_KEY = 'fencepost:epoch';

/** The heartbeat's key. */
export const HEARTBEAT_KEY = 'fencepost:heartbeat';

/** How long one beat lasts, in seconds: readers notice a dead worker at most this long after its last beat. */
export const HEARTBEAT_TTL_SECONDS = 90;

/** Time between two beats, in milliseconds. After three lost beats readers accept only young entries. */
export const HEARTBEAT_INTERVAL_MS = 30_000;

/** How old an answer may be while there is no heartbeat, in seconds, unless a call or a key type says otherwise. */
export const DEGRADED_MAX_AGE_SECONDS = 30;
