/** The real heartbeats of workers over ScheduledRedis and Postgres's one row, whose every statement waits for the scheduler too. */
import { DeliveryHealth } from '../../worker/src/delivery/health.ts';
import { Heartbeat } from '../../worker/src/delivery/heartbeat.ts';
import type { ScheduledRedis } from './scheduled-redis.ts';

export class ScheduledWorkers {
  readonly #redis: ScheduledRedis;
  readonly #step: (label: string) => Promise<void>;
  readonly #token: () => string;
  /** Postgres's one row. */
  #epoch = 'epoch of the migration';

  constructor(redis: ScheduledRedis, step: (label: string) => Promise<void>, token: () => string) {
    this.#redis = redis;
    this.#step = step;
    this.#token = token;
  }

  heartbeatOf(name: string): Heartbeat {
    const health = new DeliveryHealth(() => 0);
    health.emptied();
    const heartbeat: Heartbeat = new Heartbeat({
      cache: this.#redis.serve(name),
      outbox: {
        epoch: async () => {
          await this.#step(`${name} SELECT epoch`);
          return this.#epoch;
        },
        newEpoch: async () => {
          await this.#step(`${name} new_epoch()`);
          this.#epoch = this.#token();
          const epoch = this.#epoch;
          await this.#step(`${name} new_epoch() is answered`);
          return epoch;
        },
        confirmEpoch: async (epoch) => {
          await this.#step(`${name} UPDATE epoch`);
          return this.#epoch === epoch;
        },
      },
      databaseUrl: '',
      health,
      intervalMs: 0,
      // A beat that failed is repeated without waiting.
      onError: () => heartbeat.reset(),
      onNewEpoch: () => {},
    });
    return heartbeat;
  }
}
