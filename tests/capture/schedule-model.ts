/**
 * What the schedules know of the database from outside: the declarations that hold, the committed rows, and what each commit obliges
 * the engine to invalidate. Nothing here is read from the engine.
 */
export type Table = 'items' | 'rooms' | 'seats';
export type Row = Readonly<Record<string, string | number | null>>;
/** The rows that are there, each by a name such as `items 3`. */
export type Rows = ReadonlyMap<string, Row>;

export const TABLES: Readonly<Record<Table, readonly string[]>> = {
  items: ['org', 'kind', 'note', 'extra'],
  rooms: ['org', 'extra'],
  seats: ['room_id', 'extra'],
};

export interface Declaration {
  readonly table: Table;
  readonly target: string;
  readonly columns: readonly string[] | null;
  readonly interval: string | null;
}

const declaration = (
  table: Table,
  target: string,
  columns: readonly string[] | null = null,
  interval: string | null = null,
): Declaration => ({ table, target, columns, interval });

/** What the schedules choose from. Two of one target replace each other. */
export const DECLARATIONS: readonly Declaration[] = [
  declaration('items', 'item:{org}:*'),
  declaration('items', 'item:{org}:*', null, '1 hour'),
  declaration('items', 'item:{org}:*', ['extra']),
  declaration('items', 'kind:{kind}:{org}'),
  declaration('items', 'kind:{kind}:{org}', ['note']),
  declaration('items', 'note:{note}', ['note', 'extra']),
  declaration('rooms', 'room:{org}'),
  declaration('rooms', 'room:{org}', ['org']),
  declaration('seats', 'guest:{r.org}'),
];

/** The SQL of a declaration. */
export function watchStatement({ table, target, columns, interval }: Declaration): string {
  const parts = [`'public.${table}'`, `'${target}'`];
  if (columns !== null) parts.push(`columns => '{${columns.join()}}'`);
  if (interval !== null) parts.push(`min_interval => '${interval}'`);
  if (table === 'seats') parts.push(`"join" => 'public.rooms r on r.id = row.room_id'`);
  return `select cache_invalidation.watch(${parts.join(', ')})`;
}

/** A NULL in a segment widens to the group before it. */
function render(target: string, row: Row): string {
  const segments: string[] = [];
  for (const segment of target.split(':')) {
    const column = /^\{(?:r\.)?(.+)\}$/.exec(segment)?.[1];
    const value = column === undefined ? segment : row[column];
    if (value === null || value === undefined) return [...segments, '*'].join(':');
    segments.push(String(value));
  }
  return segments.join(':');
}

/** Whether an invalidation of `target` reaches all that `key` names, which may be a pattern itself. */
export function covers(target: string, key: string): boolean {
  return target === key || (target.endsWith('*') && key.startsWith(target.slice(0, -1)));
}

/** The keys whose answers a commit has changed, by the net difference of one row. */
function keysOf({ table, target, columns }: Declaration, name: string, before: Rows, after: Rows): string[] {
  const [was, is] = [before.get(name), after.get(name)];
  const differs = (column: string): boolean => was?.[column] !== is?.[column];
  const changed = name.split(' ')[0] as Table;
  const isParent = table === 'seats' && changed === 'rooms';
  if ((changed !== table && !isParent) || !TABLES[changed].some(differs)) return [];
  if (was !== undefined && is !== undefined) {
    const named = [...target.matchAll(/\{(?:r\.)?(.+?)\}/g)].map(([, column = '']) => column);
    const counted = isParent ? ['org'] : columns === null ? TABLES[table] : [...columns, ...named];
    if (!counted.some(differs)) return [];
  } else if (isParent) return [];
  const source = (row: Row | undefined, rows: Rows): Row | undefined =>
    table === 'seats' && !isParent ? rows.get(`rooms ${row?.room_id}`) : row;
  return [source(was, before), source(is, after)].flatMap((row) => (row ? [render(target, row)] : []));
}

/** What must be followed by a confirmed DEL, sent later than at the step `since`, of a target that covers the key. */
export interface Obligation {
  readonly key: string;
  readonly since: number;
}

export class Model {
  readonly #declared = new Map<string, Declaration>();
  rows: Rows;
  open: Obligation[] = [];

  constructor(rows: Rows) {
    this.rows = rows;
  }

  /** A transaction has committed and left these rows. */
  committed(rows: Rows, since: number): void {
    const keys = new Set<string>();
    for (const name of new Set([...this.rows.keys(), ...rows.keys()]))
      for (const declared of this.#declared.values())
        for (const key of keysOf(declared, name, this.rows, rows)) keys.add(key);
    this.rows = rows;
    for (const key of keys) this.oblige(key, since);
  }

  oblige(key: string, since: number): void {
    this.open.push({ key, since });
  }

  /** Capture begins, or becomes wider: entries of before it may be older than rows that it has not seen. */
  watch(declared: Declaration, since: number): void {
    const known = this.#declared.get(declared.target);
    const isCovered =
      known?.columns === null ||
      (known !== undefined && declared.columns?.every((name) => known.columns?.includes(name)) === true);
    this.#declared.set(declared.target, declared);
    if (!isCovered) this.oblige(`${declared.target.split(':')[0]}:*`, since);
  }

  unwatch(target: string): void {
    this.#declared.delete(target);
  }

  /** A DEL that was sent at this step is confirmed. */
  confirmed(target: string, sentAt: number): void {
    this.open = this.open.filter(({ key, since }) => since >= sentAt || !covers(target, key));
  }
}
