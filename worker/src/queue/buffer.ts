/**
 * Hands to the queue what the drain does not do itself, beside the drain and never in its way: sweeps, targets that Redis
 * refuses, second deletes.
 *
 *     drain ── take ──▶ remembered here; the row stays in the outbox ── one call for many ──▶ queue ──▶ row acknowledged
 *
 * ## States
 *
 *     idle      nothing is remembered
 *     handing   one call to the queue is under way, for as many as fit
 *     pausing   the last call failed: the next is made after a pause; what comes meanwhile is only remembered
 *
 * and, in any of them, `missed`: there was no room for some row. Such a row is not remembered. It stays in the outbox, and
 * when all that is remembered has been handed over, the drain forgets its position, which hands it out once more.
 *
 * ## Invariant
 *
 *     A row that needs the queue leaves the outbox only after the queue has its errand durably; and while it is in the
 *     outbox it is remembered here, or `missed` is set, or the drain's position will be forgotten.
 *
 * It holds because rows are acknowledged only below the call that resolved; because what is remembered is dropped only by
 * `forget`, which goes with the drain's forgetting of its position; and because `missed` is cleared only together with that.
 * A crash forgets everything, and the position with it. A row that comes twice costs a job that finds nothing to do.
 *
 * The queue's failure never reaches the drain: rows that need no queue flow whatever becomes of it.
 */
import { asWorkerError, type WorkerError } from '../lib/errors.ts';
import type { Errand } from './jobs.ts';

/** Rows of one page that need the same. */
export interface Piece {
  /** Names of the rows, pairwise, as Postgres arrays in text form. */
  readonly xids: string;
  readonly ids: string;
  readonly rows: number;
  /** Of a page that names targets with a min_interval. */
  readonly rests: boolean;
  readonly errands: readonly Errand[];
}

export interface HandOverParts {
  add(errands: readonly Errand[]): Promise<void>;
  acknowledge(rows: { readonly xids: string; readonly ids: string }, rests: boolean): Promise<unknown>;
  /** All that was remembered is handed over, and there was more: the drain is to hand out the rest. */
  onMissed(): void;
  onTrouble(error: WorkerError): void;
}

/** Characters of names and targets that are remembered at most; they take about 30 MB. */
const CHARACTERS_MOST = 10_000_000;
/** In one call, unless one piece alone is more. */
const CALL_CHARACTERS = 500_000;
const PAUSE_FIRST_MS = 500;
const PAUSE_MOST_MS = 10_000;

export class HandOver {
  readonly #parts: HandOverParts;
  readonly #most: number;
  #remembered: Piece[] = [];
  #characters = 0;
  #rows = 0;
  #missed = false;
  #failures = 0;
  #handing = false;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #waiting: (() => void)[] = [];

  constructor(parts: HandOverParts, charactersMost: number = CHARACTERS_MOST) {
    this.#parts = parts;
    this.#most = charactersMost;
  }

  /** Rows that wait for the queue; some more may be in the outbox when there was no room. */
  get rows(): number {
    return this.#rows;
  }

  /** Rows had to be left to the outbox alone. */
  get missed(): boolean {
    return this.#missed;
  }

  /** The last call to the queue failed. */
  get failing(): boolean {
    return this.#failures > 0;
  }

  /** Takes rows over; their errands follow when the queue takes them. Never waits, never throws. */
  take(piece: Piece): void {
    if (this.#stopped || piece.rows === 0) return;
    const size = sizeOf(piece);
    if (this.#characters > 0 && this.#characters + size > this.#most) {
      this.#missed = true;
      return;
    }
    this.#remembered.push(detached(piece));
    this.#characters += size;
    this.#rows += piece.rows;
    this.#begin();
  }

  /**
   * Resolves when less than half of what fits is remembered, so that a backlog does not run ahead of a queue that works;
   * at once while the queue does not.
   */
  async room(): Promise<void> {
    while (this.#characters > this.#most / 2 && !this.failing && !this.#stopped)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** The drain has forgotten its position: every row in the outbox is handed out again. */
  forget(): void {
    this.#remembered = [];
    this.#characters = 0;
    this.#rows = 0;
    this.#missed = false;
    this.#tell();
  }

  /** What is remembered stays in the outbox for the next worker. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.forget();
  }

  #begin(): void {
    if (this.#handing || this.#timer !== undefined || this.#stopped) return;
    this.#handing = true;
    void this.#handAll().finally(() => {
      this.#handing = false;
      this.#tell();
      // What was taken in the last moment.
      if (this.#remembered.length > 0) this.#begin();
    });
  }

  async #handAll(): Promise<void> {
    // What is taken in the same turn goes with one call.
    await Promise.resolve();
    while (this.#remembered.length > 0 && !this.#stopped) {
      const pieces = this.#next();
      try {
        await this.#hand(pieces);
      } catch (error) {
        this.#pause(asWorkerError(error));
        return;
      }
      this.#failures = 0;
      // `forget` may have emptied the list meanwhile, and new pieces may have come.
      if (this.#remembered[0] === pieces[0]) this.#remembered.splice(0, pieces.length);
      this.#count();
      this.#tell();
    }
    if (!this.#missed) return;
    this.#missed = false;
    this.#parts.onMissed();
  }

  /** The first pieces, as many as fit into a call. */
  #next(): readonly Piece[] {
    let characters = 0;
    const end = this.#remembered.findIndex((piece, index) => {
      characters += sizeOf(piece);
      return index > 0 && characters > CALL_CHARACTERS;
    });
    return this.#remembered.slice(0, end === -1 ? undefined : end);
  }

  async #hand(pieces: readonly Piece[]): Promise<void> {
    await this.#parts.add(merged(pieces.flatMap((piece) => piece.errands)));
    await this.#parts.acknowledge(
      { xids: joined(pieces.map((piece) => piece.xids)), ids: joined(pieces.map((piece) => piece.ids)) },
      pieces.some((piece) => piece.rests),
    );
  }

  #pause(failure: WorkerError): void {
    const ms = Math.min(PAUSE_MOST_MS, PAUSE_FIRST_MS * 2 ** Math.min(this.#failures++, 10));
    this.#parts.onTrouble(failure);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#begin();
    }, ms);
  }

  #count(): void {
    this.#characters = this.#remembered.reduce((sum, piece) => sum + sizeOf(piece), 0);
    this.#rows = this.#remembered.reduce((sum, piece) => sum + piece.rows, 0);
  }

  #tell(): void {
    for (const look of this.#waiting.splice(0)) look();
  }
}

/** One errand of several that may go together; a second delete that waits a little longer than asked is as good. */
function merged(errands: readonly Errand[]): Errand[] {
  const targets = new Set<string>();
  const isolate = new Set<string>();
  let delayMs = 0;
  const others: Errand[] = [];
  for (const errand of errands) {
    if (errand.kind === 'second-delete') {
      delayMs = Math.max(delayMs, errand.delayMs);
      for (const target of errand.targets) targets.add(target);
    } else if (errand.kind === 'isolate') for (const target of errand.targets) isolate.add(target);
    else others.push(errand);
  }
  if (isolate.size > 0) others.push({ kind: 'isolate', targets: [...isolate] });
  if (targets.size > 0) others.push({ kind: 'second-delete', targets: [...targets], delayMs });
  return others;
}

function joined(arrays: readonly string[]): string {
  return `{${arrays.map((array) => array.slice(1, -1)).join(',')}}`;
}

function sizeOf({ xids, ids, errands }: Piece): number {
  return errands.reduce((sum, errand) => sum + charactersOf(errand), xids.length + ids.length);
}

function charactersOf(errand: Errand): number {
  if ('targets' in errand) return errand.targets.reduce((sum, target) => sum + target.length + 16, 0);
  return (errand.kind === 'retry' ? errand.target : errand.pattern).length + 16;
}

/** The piece without ties to the page it was cut from: a part of a long text keeps all of the text in memory. */
function detached(piece: Piece): Piece {
  return JSON.parse(JSON.stringify(piece)) as Piece;
}
