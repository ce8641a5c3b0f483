/**
 * Whether every write still reaches the outbox. Capture ends without an error: a trigger is disabled, a table dropped and made
 * again, a dump restored. `cache_invalidation.problems()` finds that. While the worker leads, this calls it once in 30 s, and reports
 * each problem when it begins and when it ends. A call that takes more than 3 s gets a tenth of the time, as far as a problem is
 * found within a minute.
 *
 * The query waits 100 ms for locks and runs 10 s at most, on one connection of the delivery pool. Nothing waits for it.
 */
import pg from 'pg';
import { describe } from '../../lib/errors.ts';
import type { Role } from '../../wakeup/leader-election.ts';

/**
 *     error     writes are missed, or fail
 *     warning   invalidations are wider than declared, or DDL is not followed
 *     notice    may come to that
 */
export type Severity = 'error' | 'warning' | 'notice';

export interface CaptureProblem {
  readonly watch: number | null;
  readonly severity: Severity;
  readonly problem: string;
  readonly remedy: string;
}

const INTERVAL_MS = 30_000;

/** With the 2 s between two calls of check(), and the 10 s of a query, within a minute. */
const LONGEST_INTERVAL_MS = 45_000;

/** A worker that begins to lead needs its connections for what has waited. */
const FIRST_AFTER_MS = 5_000;

const PROBLEMS = 'select watch_id as watch, severity, problem, remedy from cache_invalidation.problems()';

export async function captureProblems(pool: Pick<pg.Pool, 'query'>): Promise<CaptureProblem[]> {
  return (await pool.query<CaptureProblem>(PROBLEMS)).rows;
}

/** The same for a running worker, with limits. */
export async function captureProblemsWithin(pool: Pick<pg.Pool, 'query'>): Promise<CaptureProblem[]> {
  // Several statements in one message are one transaction: the limits end with it, also when it fails. The plans of delivery's
  // session are for the outbox alone.
  const results: unknown = await pool.query(
    `set local lock_timeout = 100; set local statement_timeout = 10000; set local plan_cache_mode = auto;
      set local enable_seqscan = on; set local enable_bitmapscan = on; ${PROBLEMS}`,
  );
  return (results as pg.QueryResult<CaptureProblem>[]).at(-1)?.rows ?? [];
}

export const describeProblem = ({ severity, problem, remedy }: CaptureProblem): string =>
  `${severity === 'error' ? 'Writes may be missed' : 'Capture'}: ${problem}. Remedy: ${remedy}`;

export interface CaptureCheckParts {
  problems(): Promise<readonly CaptureProblem[]>;
  onBegin(problem: CaptureProblem): void;
  onEnd(problem: CaptureProblem): void;
  /** Milliseconds of a monotonic clock. */
  now?(): number;
}

export class CaptureCheck {
  readonly #parts: CaptureCheckParts;
  readonly #now: () => number;
  #found = new Map<string, CaptureProblem>();
  #dueAt: number;
  #running = false;

  constructor(parts: CaptureCheckParts) {
    this.#parts = parts;
    this.#now = parts.now ?? (() => performance.now());
    this.#dueAt = this.#now() + FIRST_AFTER_MS;
  }

  get problems(): readonly CaptureProblem[] {
    return [...this.#found.values()];
  }

  /** Called every 2 s. Never rejects. */
  async check(role: Role): Promise<void> {
    if (role !== 'leading' && role !== 'contested') {
      // The leader reports them.
      this.#found.clear();
      this.#dueAt = this.#now() + FIRST_AFTER_MS;
      return;
    }
    const startedAt = this.#now();
    if (this.#running || startedAt < this.#dueAt) return;
    this.#running = true;
    try {
      this.#settle(await this.#parts.problems());
    } catch (error) {
      // A database that is away is reported by delivery. What was found stands until a check succeeds.
      if (error instanceof pg.DatabaseError && error.code?.startsWith('57P') === false)
        this.#settle([...this.problems, unchecked(error)]);
    } finally {
      this.#running = false;
      const spared = Math.max(INTERVAL_MS, 10 * (this.#now() - startedAt));
      this.#dueAt = startedAt + Math.min(LONGEST_INTERVAL_MS, spared);
    }
  }

  #settle(found: readonly CaptureProblem[]): void {
    const before = this.#found;
    this.#found = new Map(found.map((problem) => [key(problem), problem]));
    for (const [name, problem] of this.#found) if (!before.has(name)) this.#parts.onBegin(problem);
    for (const [name, problem] of before) if (!this.#found.has(name)) this.#parts.onEnd(problem);
  }
}

/** The problem's text is always the same, so that it begins once. */
function unchecked(error: unknown): CaptureProblem {
  return {
    watch: null,
    severity: 'warning',
    problem: 'whether every write is captured could not be checked',
    remedy: `select * from cache_invalidation.problems(); failed or took over 10 s (${describe(error)})`,
  };
}

const key = ({ watch, problem }: CaptureProblem): string => `${watch} ${problem}`;
