/** What every part of one running worker shares. Made once, in start-worker.ts. */
import type pg from 'pg';
import type { Outbox } from '../db/outbox.ts';
import type { Part, Trouble } from '../delivery/error-log.ts';
import type { Flow } from '../delivery/health.ts';
import type { Configuration } from '../lib/config.ts';
import type { WorkerError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { CacheServer } from '../redis/upstash.ts';

export interface Context {
  readonly configuration: Configuration;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly trouble: Trouble;
  readonly flow: Flow;
  readonly cache: CacheServer;
  readonly pool: pg.Pool;
  readonly outbox: Outbox;
  /**
   * Counts a failure and says it, unless the worker is stopping.
   *
   * @param of what failed; a drain that goes well ends troubles of the flow only (trouble.ts)
   */
  onTrouble(error: WorkerError, of?: Part): void;
}
