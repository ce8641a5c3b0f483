/**
 * The sleep protocol against a model of Postgres in which anything may happen between two steps of the worker: writers insert,
 * try WAKE_LOCK, commit and notify; notifications arrive late; LISTEN is lost and comes back. Each seed is one interleaving.
 * The invariant: while the worker sleeps and no notification is on its way, no committed row is left. Without any one of the
 * rules some seed fails. tests/worker/wakeup.test.ts is the same with the real parts.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type DeliveryOutcome, SleepProtocol, type SleepState } from './sleep-protocol.ts';

const SEEDS = 300;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

function random(seed: number): (below: number) => number {
  let state = seed * 2_654_435_761 + 1;
  return (below) => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return Math.floor((state / 4_294_967_296) * below);
  };
}

interface Writer {
  /** begun: nothing yet; inserted: a row, and WAKE_LOCK tried; done: committed. */
  stage: 'begun' | 'inserted' | 'done';
  sharesLock: boolean;
  notifies: boolean;
}

/** Postgres, as far as the sleep protocol sees it. */
class Model {
  readonly #below: (below: number) => number;
  #writers: Writer[] = [];
  #outbox = 0;
  #workerHoldsLock = false;
  #notifications: (() => void)[] = [];
  #writesLeft: number;
  #finished = false;
  #delivering = false;
  state: SleepState = 'awake';
  unnotified = 0;
  listening = true;
  failing = 0;
  protocol: SleepProtocol | null = null;

  constructor(seed: number, writes: number) {
    this.#below = random(seed);
    this.#writesLeft = writes;
  }

  get quiet(): boolean {
    return (
      this.#writesLeft === 0 &&
      this.#writers.every((writer) => writer.stage === 'done') &&
      this.#notifications.length === 0
    );
  }

  get outbox(): number {
    return this.#outbox;
  }

  /** One random event. */
  happen(): void {
    if (this.#finished) return;
    const choice = this.#below(20);
    if (choice < 5) {
      if (this.#writesLeft === 0) return;
      this.#writesLeft--;
      this.#writers.push({ stage: 'begun', sharesLock: false, notifies: false });
    } else if (choice < 11) {
      const open = this.#writers.filter((writer) => writer.stage !== 'done');
      const writer = open[this.#below(Math.max(1, open.length))];
      if (writer !== undefined) this.#step(writer);
    } else if (choice < 18) this.#notifications.shift()?.();
    else if (choice === 18 && this.#below(5) === 0) this.#listener(!this.listening);
    else if (choice === 19 && this.#below(10) === 0) this.failing = 1 + this.#below(3);
  }

  /** Starts nothing new and completes what is under way. */
  finish(): void {
    this.#finished = true;
    this.#writesLeft = 0;
    for (const writer of this.#writers) while (writer.stage !== 'done') this.#step(writer);
    if (!this.listening) this.#listener(true);
    while (this.#notifications.length > 0) this.#notifications.shift()?.();
  }

  #step(writer: Writer): void {
    if (writer.stage === 'begun') {
      // The trigger: insert, then try the lock in shared mode.
      writer.stage = 'inserted';
      writer.sharesLock = !this.#workerHoldsLock;
      writer.notifies = this.#workerHoldsLock;
      return;
    }
    // The commit: the row is visible before the lock is released and before the notification is sent.
    writer.stage = 'done';
    this.#outbox++;
    writer.sharesLock = false;
    // A notification that nobody listens for is lost.
    if (writer.notifies && this.listening) this.#notifications.push(() => this.protocol?.notified());
  }

  #listener(listening: boolean): void {
    this.listening = listening;
    if (!listening) this.#notifications = [];
    this.protocol?.recheck();
  }

  readonly session = {
    alive: true,
    tryWakeLock: async () => {
      await this.#meanwhile();
      const granted = this.#writers.every((writer) => !writer.sharesLock);
      if (granted) this.#workerHoldsLock = true;
      await this.#meanwhile();
      return granted;
    },
    releaseWakeLock: async () => {
      await this.#meanwhile();
      this.#workerHoldsLock = false;
      await this.#meanwhile();
      return true;
    },
  };

  /** Violations: asleep without LISTEN; or asleep with a row and no notification on its way. */
  get wrong(): string | null {
    if (this.state !== 'asleep' || this.#delivering) return null;
    if (!this.listening) return 'asleep without LISTEN';
    return this.#notifications.length === 0 && this.#outbox > 0
      ? 'asleep with a row and no notification'
      : null;
  }

  async deliver(): Promise<DeliveryOutcome> {
    this.#delivering = true;
    try {
      return await this.#deliver();
    } finally {
      this.#delivering = false;
    }
  }

  async #deliver(): Promise<DeliveryOutcome> {
    let rows = 0;
    await this.#meanwhile();
    if (this.failing > 0) {
      this.failing--;
      return { rows: 0, retryInMs: 100, dueInMs: null };
    }
    for (;;) {
      const seen = this.#outbox;
      await this.#meanwhile();
      if (seen === 0) return { rows, retryInMs: null, dueInMs: null };
      this.#outbox -= seen;
      rows += seen;
      await this.#meanwhile();
    }
  }

  async #meanwhile(): Promise<void> {
    for (let count = this.#below(6); count > 0; count--) {
      this.happen();
      await Promise.resolve();
    }
  }
}

async function play(model: Model, rounds: number): Promise<void> {
  const protocol = new SleepProtocol({
    session: model.session,
    listener: model,
    deliver: () => model.deliver(),
    pollInMs: () => 1e9,
    onState: (state) => {
      model.state = state;
    },
    onUnnotified: (rows) => {
      model.unnotified += rows;
    },
  });
  model.protocol = protocol;
  const run = protocol.run();
  for (let round = 0; round < rounds; round++) {
    model.happen();
    // Sometimes long enough to fall asleep.
    await vi.advanceTimersByTimeAsync(round % 7 === 0 ? 120 : 1);
    // Let woken tasks run.
    await vi.advanceTimersByTimeAsync(0);
    expect(model.wrong, `round ${round}`).toBeNull();
  }
  model.finish();
  for (
    let count = 0;
    count < 50 && !(model.quiet && model.state === 'asleep' && model.outbox === 0);
    count++
  ) {
    await vi.advanceTimersByTimeAsync(100);
  }
  // Long after the last notification, and long before the next fallback poll.
  await vi.advanceTimersByTimeAsync(10_000);
  const left = { state: model.state, outbox: model.outbox, unnotified: model.unnotified };
  protocol.end();
  await vi.advanceTimersByTimeAsync(1_000);
  await run;
  expect(left).toEqual({ state: 'asleep', outbox: 0, unnotified: 0 });
}

describe('SleepProtocol, interleaved', () => {
  it(`sleeps only when nothing is left, in ${SEEDS} interleavings`, { timeout: 60_000 }, async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      try {
        await play(new Model(seed, 5 + (seed % 40)), 60);
      } catch (error) {
        throw new Error(`Seed ${seed}.`, { cause: error });
      }
    }
  });
});
