/**
 * Random schedules of real sessions, of which one step at a time runs: writers, declarations that change under open writers,
 * workers, what is pending, a backlog that is settled. A seed gives the same schedule again.
 *
 * Invariant, after each step: each committed change of a watched row is in the outbox or in `pending`, or was followed by a
 * confirmed DEL, sent after its commit, of a target that covers its old and its new keys. A declaration that begins or becomes wider
 * obliges the same for its type's wildcard. What was changed is known from outside (schedule-model.ts).
 */
import type { Batch } from '../../worker/src/db/outbox.ts';
import {
  covers,
  DECLARATIONS,
  type Declaration,
  Model,
  type Obligation,
  type Rows,
  type Table,
  watchStatement,
} from './schedule-model.ts';
import type { Sessions } from './schedule-sessions.ts';
import { looker, type Rules, settler, worker } from './schedule-workers.ts';
import { caller, declarer, pinned, writer } from './schedule-writers.ts';

export type Actor = AsyncGenerator<void, void, void>;

const ACTORS = { writer, caller, declarer, settler, worker, looker, pinned };
type Kind = keyof typeof ACTORS;
/** In the order in which they end. */
export const KINDS: readonly Kind[] = [
  'writer',
  'writer',
  'writer',
  'caller',
  'declarer',
  'settler',
  'worker',
  'worker',
  'looker',
  'looker',
  'pinned',
];

/** What a schedule is about. What stays in the outbox or pending covers what comes later, so most leave little there. */
interface Focus {
  readonly tables: readonly Table[];
  /** How often each kind of actor takes a step, relative to the others. */
  readonly weights: Readonly<Partial<Record<Kind, number>>>;
  /** Redis refuses so many of four targets. */
  readonly refusals: number;
  /** Workers find that so many of four targets ran too recently, besides those whose declaration says so. */
  readonly throttled?: number;
  /** Workers go from a claim to its acknowledgement in one step. */
  readonly isEager: boolean;
}

const ITEMS: readonly Table[] = ['items'];
const ROOMS: readonly Table[] = ['rooms', 'rooms', 'seats'];

export const FOCUSES = {
  claims: {
    tables: ITEMS,
    weights: { writer: 2, worker: 1, pinned: 1, looker: 1 },
    refusals: 1,
    isEager: false,
  },
  declarations: {
    tables: ITEMS,
    weights: { writer: 1, declarer: 2, worker: 2, looker: 1 },
    refusals: 0,
    isEager: true,
  },
  joins: {
    tables: ROOMS,
    weights: { writer: 1, declarer: 1, worker: 2, looker: 1 },
    refusals: 0,
    isEager: true,
  },
  pending: {
    tables: ITEMS,
    weights: { caller: 3, worker: 2, looker: 2 },
    refusals: 2,
    throttled: 1,
    isEager: true,
  },
  backlog: {
    tables: ITEMS,
    weights: { caller: 2, writer: 1, settler: 3, worker: 1, looker: 1 },
    refusals: 1,
    isEager: true,
  },
  everything: {
    tables: [...ITEMS, ...ROOMS],
    weights: { writer: 2, caller: 1, declarer: 1, settler: 1, worker: 2, looker: 1, pinned: 1 },
    refusals: 2,
    isEager: false,
  },
} as const satisfies Record<string, Focus>;
export type FocusName = keyof typeof FOCUSES;
const NAMES = Object.keys(FOCUSES) as FocusName[];

const STEPS = 120;
/** With those of the end, in which everything must get confirmed. */
const MOST_STEPS = 1_000;

export class Schedule {
  readonly focus: Focus;
  readonly model: Model;
  readonly hasReplicas: boolean;
  /** What this schedule declares: few, which meet more often. */
  readonly declarations: readonly Declaration[];
  readonly journal: string[] = [];
  step = 0;
  actor = '';
  isEnding = false;
  /** Set by a step that found nothing to do: another actor goes on. */
  isIdle = false;
  readonly #sessions: Sessions;
  #random: number;

  constructor(seed: number, focus: Focus, sessions: Sessions, rows: Rows) {
    this.#random = seed * 2_654_435_761 + 1;
    this.#sessions = sessions;
    this.focus = focus;
    this.model = new Model(rows);
    this.hasReplicas = focus.refusals > 0 && this.below(4) === 0;
    const group = DECLARATIONS.filter(({ table }) => focus.tables.includes(table));
    const first = this.pick(group.filter(({ columns }) => (columns === null) === seed % 3 > 0));
    const other = this.pick(group.filter(({ target }) => target !== first.target));
    const isChosen = (each: Declaration): boolean =>
      each === other || each.table === 'seats' || (each.target === first.target && this.below(3) === 0);
    this.declarations = [first, ...group.filter((each) => each !== first && isChosen(each))];
  }

  /** A random number, the same for the same seed. */
  readonly below = (most: number): number => {
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#random / 2 ** 32) * most);
  };

  readonly pick = <T>(from: readonly T[]): T => from[this.below(from.length)] as T;

  note(text: string): void {
    this.journal.push(`${this.step} ${this.actor}: ${text}`);
  }

  /** Redis's answer to a DEL that was sent at this step. */
  redis(target: string, sentAt: number, refusals = this.focus.refusals): boolean {
    if (!this.isEnding && this.below(4) < refusals) return false;
    this.model.confirmed(target, sentAt);
    return true;
  }

  async isEmpty(table: 'changes' | 'pending'): Promise<boolean> {
    return (await this.#sessions.query(`select from cache_invalidation.${table} limit 1`)).length === 0;
  }

  /** A transaction has committed that may have written to watched tables. */
  async committed(): Promise<void> {
    this.model.committed(await this.#sessions.rows(this.model.rows), this.step);
    await this.check();
  }

  /** A batch holds transactions whole, and no more changes than asked for unless one transaction has them. */
  async checkBatch({ xids, changes }: Batch, asked: number): Promise<void> {
    const rows = await this.#sessions.query<{ xid: string }>(
      'select xid from cache_invalidation.changes where xid = any ($1::xid8[])',
      [xids ?? '{}'],
    );
    if (rows.length !== changes || (changes > asked && new Set(rows.map(({ xid }) => xid)).size > 1))
      throw new Error(`a batch of ${changes} changes where ${asked} were asked for: ${xids}`);
  }

  /** `drained`: what was committed has been handed out to this worker, or is confirmed or pending. */
  async checkDrained(handedOut: ReadonlyMap<string, number>): Promise<void> {
    const wasHandedOut = ({ key, since }: Obligation): boolean =>
      [...handedOut].some(([target, at]) => at > since && covers(target, key));
    const open = this.model.open.filter((each) => each.since < this.step && !wasHandedOut(each));
    await this.#checkCovered(open, 'skipped', 'select target from cache_invalidation.pending');
  }

  async check(): Promise<void> {
    await this.#checkCovered(
      this.model.open,
      'lost',
      'select target from cache_invalidation.outbox union select target from cache_invalidation.pending',
    );
  }

  async #checkCovered(open: readonly Obligation[], what: string, query: string): Promise<void> {
    if (open.length === 0) return;
    const targets = (await this.#sessions.query<{ target: string }>(query)).map(({ target }) => target);
    for (const { key, since } of open)
      if (!targets.some((target) => covers(target, key)))
        throw new Error(`${key} of step ${since} was ${what}; what is left: ${targets}`);
  }

  async checkEnd(): Promise<void> {
    if (this.model.open.length > 0) throw new Error(`not confirmed: ${JSON.stringify(this.model.open)}`);
    if (!(await this.isEmpty('changes'))) throw new Error('changes are left');
  }
}

/** Plays one schedule. @throws what was lost, with all steps */
export async function play(
  sessions: Sessions,
  seed: number,
  rules: Rules,
  name: FocusName = NAMES[seed % NAMES.length] as FocusName,
): Promise<void> {
  await sessions.reset();
  const schedule = new Schedule(seed, FOCUSES[name], sessions, await sessions.rows(new Map()));
  const { below, pick, model, journal } = schedule;
  for (const [index, declared] of schedule.declarations.entries())
    if (index === 0 || declared.table === 'seats' || below(4) === 0) {
      await sessions.query(watchStatement(declared));
      journal.push(watchStatement(declared));
      model.watch(declared, 0);
    }
  // They are old: what their beginning invalidated is done.
  await sessions.query('delete from cache_invalidation.changes');
  model.open = [];

  const actors = new Map<string, Actor>();
  const weighted: string[] = [];
  for (const [index, kind] of KINDS.entries()) {
    const weight = (schedule.focus.weights[kind] ?? 0) * (name === 'everything' ? pick([0, 1, 2]) : 1);
    if (weight === 0 && kind !== 'worker' && kind !== 'looker') continue;
    const each = `${kind} ${index}`;
    actors.set(each, ACTORS[kind](schedule, sessions.get(index + 1), rules));
    weighted.push(...Array<string>(weight).fill(each));
  }
  async function step(actor: string): Promise<boolean> {
    schedule.step += 1;
    schedule.actor = actor;
    schedule.isIdle = false;
    return (await actors.get(actor)?.next())?.done === true;
  }
  try {
    // Most of what goes wrong needs one that stands still while another goes on.
    const patience = pick([2, 4, 6]);
    let actor = pick(weighted);
    while (schedule.step < STEPS) {
      if (schedule.isIdle || below(patience) === 0) actor = pick(weighted);
      await step(actor);
    }
    schedule.isEnding = true;
    for (const last of actors.keys())
      while (!(await step(last))) if (schedule.step > MOST_STEPS) throw new Error('it does not end');
    await schedule.checkEnd();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(
      `seed ${seed}, ${name}: ${message}\nAgain: FENCEPOST_SEED=${seed} npx vitest run tests/capture/schedules.test.ts\n${journal.join('\n')}`,
      { cause: error },
    );
  }
}
