/** What every part of one running worker shares. Made once, in start-worker.ts. */
import type pg from 'pg';
import type { CacheServer } from './apply/upstash.ts';
import type { Configuration } from './configuration.ts';
import type { Flow } from './drain/flow.ts';
import type { Outbox } from './drain/outbox.ts';
import type { WorkerError } from './errors.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics/metrics.ts';
import type { Part, Trouble } from './trouble.ts';

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
