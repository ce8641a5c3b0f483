/**
 * The doorbell against a model of Postgres in which everything may happen between any two steps of the worker: writers
 * insert, ask for K, commit and ring; notifications arrive late; the listener goes and comes back. Each seed is one
 * interleaving. The invariant is the one above the class: whenever the worker sleeps and nothing more is under way, no
 * committed row is left. Without any of the rules some seed fails (tests/worker/wakeup.test.ts is the same with the real parts).
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Doorbell, type DoorbellState, type DrainOutcome } from './sleep-protocol.ts';

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
  /** begun: nothing yet; inserted: a row, K asked for; done: committed. */
  stage: 'begun' | 'inserted' | 'done';
  sharesK: boolean;
  rings: boolean;
}

/** Postgres, as far as the doorbell sees it. */
class Model {
  readonly #below: (below: number) => number;
  #writers: Writer[] = [];
  #outbox = 0;
  #workerHoldsK = false;
  #mail: (() => void)[] = [];
  #writesLeft: number;
  #finished = false;
  #draining = false;
  state: DoorbellState = 'awake';
  unrung = 0;
  listening = true;
  failing = 0;
  doorbell: Doorbell | null = null;

  constructor(seed: number, writes: number) {
    this.#below = random(seed);
    this.#writesLeft = writes;
  }

  get quiet(): boolean {
    return (
      this.#writesLeft === 0 &&
      this.#writers.every((writer) => writer.stage === 'done') &&
      this.#mail.length === 0
    );
  }

  get outbox(): number {
    return this.#outbox;
  }

  /** Something happens elsewhere. */
  happen(): void {
    if (this.#finished) return;
    const choice = this.#below(20);
    if (choice < 5) {
      if (this.#writesLeft === 0) return;
      this.#writesLeft--;
      this.#writers.push({ stage: 'begun', sharesK: false, rings: false });
    } else if (choice < 11) {
      const open = this.#writers.filter((writer) => writer.stage !== 'done');
      const writer = open[this.#below(Math.max(1, open.length))];
      if (writer !== undefined) this.#step(writer);
    } else if (choice < 18) this.#mail.shift()?.();
    else if (choice === 18 && this.#below(5) === 0) this.#listener(!this.listening);
    else if (choice === 19 && this.#below(10) === 0) this.failing = 1 + this.#below(3);
  }

  /** Nothing new begins; what is under way comes to its end. */
  finish(): void {
    this.#finished = true;
    this.#writesLeft = 0;
    for (const writer of this.#writers) while (writer.stage !== 'done') this.#step(writer);
    if (!this.listening) this.#listener(true);
    while (this.#mail.length > 0) this.#mail.shift()?.();
  }

  #step(writer: Writer): void {
    if (writer.stage === 'begun') {
      // The trigger: insert, then try_shared(K).
      writer.stage = 'inserted';
      writer.sharesK = !this.#workerHoldsK;
      writer.rings = this.#workerHoldsK;
      return;
    }
    // The commit: the row is visible before the lock is released and before the notification is sent.
    writer.stage = 'done';
    this.#outbox++;
    writer.sharesK = false;
    // Who does not listen at this moment never hears of it.
    if (writer.rings && this.listening) this.#mail.push(() => this.doorbell?.ring());
  }

  #listener(listening: boolean): void {
    this.listening = listening;
    if (!listening) this.#mail = [];
    this.doorbell?.disturb();
  }

  readonly session = {
    alive: true,
    tryBell: async () => {
      await this.#meanwhile();
      const granted = this.#writers.every((writer) => !writer.sharesK);
      if (granted) this.#workerHoldsK = true;
      await this.#meanwhile();
      return granted;
    },
    releaseBell: async () => {
      await this.#meanwhile();
      this.#workerHoldsK = false;
      await this.#meanwhile();
      return true;
    },
  };

  /** What must never be: asleep and deaf; or asleep, nothing on its way, and yet a row is left. */
  get wrong(): string | null {
    if (this.state !== 'asleep' || this.#draining) return null;
    if (!this.listening) return 'asleep and deaf';
    return this.#mail.length === 0 && this.#outbox > 0 ? 'asleep with a row that nobody will tell of' : null;
  }

  async drain(): Promise<DrainOutcome> {
    this.#draining = true;
    try {
      return await this.#drain();
    } finally {
      this.#draining = false;
    }
  }

  async #drain(): Promise<DrainOutcome> {
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
  const doorbell = new Doorbell({
    session: model.session,
    listener: model,
    drain: () => model.drain(),
    pollInMs: () => 1e9,
    onState: (state) => {
      model.state = state;
    },
    onUnrung: (rows) => {
      model.unrung += rows;
    },
  });
  model.doorbell = doorbell;
  const run = doorbell.run();
  for (let round = 0; round < rounds; round++) {
    model.happen();
    // Time passes too: sometimes enough to fall asleep in between.
    await vi.advanceTimersByTimeAsync(round % 7 === 0 ? 120 : 1);
    // Whoever was woken has had its turn.
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
  // Long after the last ring, and far before the next fallback poll.
  await vi.advanceTimersByTimeAsync(10_000);
  const left = { state: model.state, outbox: model.outbox, unrung: model.unrung };
  doorbell.end();
  await vi.advanceTimersByTimeAsync(1_000);
  await run;
  expect(left).toEqual({ state: 'asleep', outbox: 0, unrung: 0 });
}

describe('Doorbell, in every order', () => {
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
