/**
 * The metrics for Prometheus. Names begin with `fencepost_`; times are in seconds.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { ConfirmedBatch } from '../delivery/loop.ts';
import { dollars, SECONDS_A_MONTH } from './command-record.ts';
import { RecentLatencies } from './recent-latency.ts';

/** Commit to DEL takes about a millisecond when all is well, and hours after an outage. */
const LATENCY_BUCKETS = [
  0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800,
  3600,
];
const SIZE_BUCKETS = [1, 2, 5, 10, 50, 100, 500, 1_000, 2_500, 5_000, 10_000];

/** A projection from the first minutes would exceed every budget after each deploy. */
const PROJECT_AFTER_SECONDS = 3_600;

export class Metrics {
  readonly registry = new Registry();
  readonly commitToClaim = this.#latency('commit_to_claim_seconds', 'From the write to its claim.');
  readonly claimToDelete = this.#latency(
    'claim_to_delete_seconds',
    'From the claim to the DEL that Redis confirmed.',
  );
  readonly commitToDelete = this.#latency('commit_to_delete_seconds', 'From the write to the confirmed DEL.');
  /** The last minutes, for people; the histograms hold everything since the start. */
  readonly recent: RecentLatencies;
  readonly batchRows = new Histogram({
    name: 'fencepost_batch_rows',
    help: 'Changed rows in one batch.',
    buckets: SIZE_BUCKETS,
    registers: [this.registry],
  });
  readonly rows = this.#counter('rows_total', 'Changed rows that have left the outbox.');
  readonly targets = this.#counter('targets_total', 'Distinct targets applied, after coalescing a batch.');
  readonly keys = this.#counter('keys_total', 'Redis keys deleted, or found absent.');
  readonly commands = new Counter({
    name: 'fencepost_upstash_commands_total',
    help: 'Commands sent to Upstash, each of which it bills.',
    labelNames: ['command'],
    registers: [this.registry],
  });
  readonly errors = new Counter({
    name: 'fencepost_troubles_total',
    help: 'Errors of Postgres or Redis, by code.',
    labelNames: ['code'],
    registers: [this.registry],
  });
  readonly notifications = this.#counter(
    'doorbell_rings_total',
    'Notifications of writers, which have no payload.',
  );
  readonly sleeps = this.#counter('doorbell_sleeps_total', 'Times the worker fell asleep.');
  readonly unnotified = this.#counter(
    'doorbell_unrung_total',
    'Rows that a fallback poll found without a notification.',
  );
  readonly reconnects = this.#counter('reconnects_total', 'Lost sessions with the database.');
  readonly epochs = this.#counter('epochs_total', 'New epochs, each of which invalidates the whole cache.');
  readonly refused = this.#counter(
    'refused_targets_total',
    'Targets that Redis refused and that the queue retries.',
  );
  readonly leading = this.#gauge('leading', '1 when this worker delivers.');
  readonly standbyUnfit = this.#gauge(
    'standby_unfit',
    '1 when this worker stands by and could not take over because of its Redis.',
  );
  readonly wakeLockHeld = this.#gauge(
    'doorbell_lock_held_by_stranger',
    '1 when a foreign session keeps this worker from sleeping.',
  );
  readonly captureProblems = new Gauge({
    name: 'fencepost_capture_problems',
    help: 'Problems of capture that the leading worker found, by severity: error means that writes may be missed.',
    labelNames: ['severity'],
    registers: [this.registry],
  });
  readonly ready = this.#gauge('ready', '1 when invalidations flow.');
  readonly outboxDepth = this.#gauge(
    'outbox_rows',
    'Changed rows in the outbox; 100 000 means as many or more.',
  );
  readonly outboxAge = this.#gauge('outbox_oldest_seconds', 'Age of the oldest row in the outbox.');
  readonly jobs = new Gauge({
    name: 'fencepost_queue_jobs',
    help: 'What is pending, and jobs of the queue, by state; failed ones are the dead letters.',
    labelNames: ['state'],
    registers: [this.registry],
  });
  readonly #startedAt: number;
  #commandCount = 0;

  /** @param now milliseconds of a monotonic clock */
  constructor(now: () => number = () => performance.now()) {
    this.#startedAt = now();
    this.recent = new RecentLatencies(now);
    collectDefaultMetrics({ register: this.registry });
    const coalescing = this.#gauge('coalescing_ratio', 'Changed rows per applied target, since the start.');
    const cost = this.#gauge(
      'upstash_projected_monthly_dollars',
      'Cost of a month of Upstash commands at the rate since the start ($0.20 per 100 000); after one hour.',
      [],
    );
    const monthly = this.#gauge(
      'upstash_projected_monthly_commands',
      'Commands a month at the rate since the start; after one hour.',
      [],
    );
    let projected = false;
    this.#beforeScrape = () => {
      coalescing.set(this.#targetCount === 0 ? 1 : this.#rowCount / this.#targetCount);
      const seconds = (now() - this.#startedAt) / 1000;
      if (seconds < PROJECT_AFTER_SECONDS) return;
      if (!projected) for (const gauge of [cost, monthly]) this.registry.registerMetric(gauge);
      projected = true;
      const commands = (this.#commandCount / seconds) * SECONDS_A_MONTH;
      monthly.set(commands);
      cost.set(dollars(commands));
    };
  }

  #rowCount = 0;
  #targetCount = 0;
  readonly #beforeScrape: () => void;

  /** Commands sent to Upstash since the start. */
  get commandCount(): number {
    return this.#commandCount;
  }

  command(name: string): void {
    this.#commandCount++;
    this.commands.inc({ command: name });
  }

  acknowledged(rows: number): void {
    this.#rowCount += rows;
    this.rows.inc(rows);
  }

  batch({ targets, distinctTargets, changes, keys, claimedAt, applyMs }: ConfirmedBatch): void {
    this.#targetCount += distinctTargets;
    this.targets.inc(distinctTargets);
    this.keys.inc(keys);
    this.batchRows.observe(changes);
    this.claimToDelete.observe(applyMs / 1000);
    // The ages in a large batch are alike: 64 of them are enough.
    const step = Math.max(1, Math.floor(targets.length / 64));
    for (let index = 0; index < targets.length; index += step) {
      const age = targets[index]?.ageMs ?? 0;
      this.commitToClaim.observe(Math.max(0, age) / 1000);
      this.commitToDelete.observe(Math.max(0, age + applyMs) / 1000);
      // How long a row had waited before this worker started says nothing about this worker.
      if (claimedAt - age >= this.#startedAt) this.recent.observe(age + applyMs);
    }
  }

  async text(): Promise<{ contentType: string; text: string }> {
    this.#beforeScrape();
    return { contentType: this.registry.contentType, text: await this.registry.metrics() };
  }

  #latency(name: string, help: string): Histogram {
    return new Histogram({
      name: `fencepost_${name}`,
      help,
      buckets: LATENCY_BUCKETS,
      registers: [this.registry],
    });
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name: `fencepost_${name}`, help, registers: [this.registry] });
  }

  #gauge(name: string, help: string, registers: Registry[] = [this.registry]): Gauge {
    return new Gauge({ name: `fencepost_${name}`, help, registers });
  }
}
