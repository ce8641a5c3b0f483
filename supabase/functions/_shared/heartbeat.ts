/**
 * The heartbeat: the one key by which readers know that invalidations are being delivered, and since when.
 *
 * The worker keeps it alive while it drains successfully: one beat every 30 s, 90 s to live, so that two beats may be
 * lost before readers turn careful. Its value is the epoch, a random name that lives in Postgres; entries carry the
 * epoch they were loaded under and are hits under no other. Replacing the value is thus the whole cache invalidated
 * in one command, and a Redis that has gone back in time is recognised by a value that the worker did not write.
 *
 * An idle worker's beats are 86 400 commands a month, below the 100 000 that the design allows.
 */

/** The heartbeat's key; a physical key has the cache's prefix in front of it. */
export const HEARTBEAT_KEY = 'fencepost:heartbeat';

/** How long one beat lasts, in seconds: readers notice a dead worker at most this long after its last beat. */
export const HEARTBEAT_TTL_SECONDS = 90;

/** Time between two beats, in milliseconds. */
export const HEARTBEAT_INTERVAL_MS = 30_000;

/** How old an answer may be while there is no heartbeat, in seconds, unless a call or a key type says otherwise. */
export const DEGRADED_MAX_AGE_SECONDS = 30;
