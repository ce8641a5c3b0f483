/** The ways in which capture ends, or widens: each with the statements that make it, and what `problems()` says then. */
import type { CaptureProblem } from '../../../worker/src/diagnostics/self-checks/capture.ts';

export interface Way {
  readonly what: string;
  /** Its tables, with names of their own, and their watches. */
  readonly declared: string;
  readonly done?: string;
  readonly found: readonly (readonly [severity: CaptureProblem['severity'], problem: RegExp])[];
}

/** A table of that name, watched. */
export const watched = (name: string, columns = 'id integer, code text', target = `${name}:{code}`) =>
  `create table public.${name} (${columns}); select cache_invalidation.watch('public.${name}', '${target}')`;
const joined = (name: string) => `create table public.${name} (id integer primary key, code text);
  create table public.${name}_next (id integer primary key, code text);
  create table public.${name}_lines (id integer);
  select cache_invalidation.watch('public.${name}_lines', '${name}:{p.code}', join => 'public.${name} p on p.id = row.id')`;
const missing = (triggers: string): Way['found'] => [
  ['error', new RegExp(`^triggers are missing or disabled: ${triggers}$`)],
];
const both = (name: string) =>
  `public.${name} fencepost_public_${name}, public.${name} fencepost_public_${name}_truncate`;

/** What event triggers see, or need not see. */
export const SEEN: readonly Way[] = [
  {
    what: 'a trigger dropped, as by a declarative schema tool',
    declared: watched('dropped'),
    done: 'drop trigger fencepost_public_dropped on public.dropped',
    found: missing('public.dropped fencepost_public_dropped'),
  },
  {
    what: 'a trigger disabled',
    declared: watched('disabled'),
    done: 'alter table public.disabled disable trigger fencepost_public_disabled_truncate',
    found: missing('public.disabled fencepost_public_disabled_truncate'),
  },
  {
    what: 'DISABLE TRIGGER ALL, and ENABLE TRIGGER ALL, as pg_restore --disable-triggers does',
    declared: watched('restored'),
    done: 'alter table public.restored disable trigger all; alter table public.restored enable trigger all',
    found: missing(both('restored')),
  },
  {
    what: 'a clone on one partition disabled',
    declared: `${watched('whole', 'id integer, code text) partition by list (id')}; create table public.whole_1 partition of public.whole for values in (1)`,
    done: 'alter table public.whole_1 disable trigger fencepost_public_whole',
    found: missing('public.whole fencepost_public_whole'),
  },
  {
    what: 'a trigger renamed',
    declared: watched('named'),
    done: 'alter trigger fencepost_public_named on public.named rename to aside',
    found: [
      ...missing('public.named fencepost_public_named'),
      ['warning', /^triggers are left over: public\.named aside$/],
    ],
  },
  {
    what: 'a capture function hardened by a script',
    declared: watched('hardened'),
    done: `alter function cache_invalidation.capture_public_hardened() set search_path = ''`,
    found: [['error', /^the capture function of public\.hardened is missing or out of date$/]],
  },
  {
    what: 'a table dropped and created again',
    declared: watched('again'),
    done: 'drop table public.again; create table public.again (id integer, code text)',
    found: [
      ['error', /^public\.again is not watched for 'again:\{code\}', as the table was that had its name/],
    ],
  },
  {
    what: 'a table rebuilt under another name and renamed',
    declared: `${watched('built')}; create table public.built_next (id integer, code text)`,
    done: 'alter table public.built rename to built_former; alter table public.built_next rename to built',
    found: [
      [
        'error',
        /^the watch of public\.built_former .* was called public\.built, which is another table now$/,
      ],
    ],
  },
  {
    what: 'drop schema … cascade, and its tables again',
    declared: `create schema apart create table things (code text); select cache_invalidation.watch('apart.things', 'apart:{code}')`,
    done: 'drop schema apart cascade; create schema apart create table things (code text)',
    found: [['error', /^apart\.things is not watched for 'apart:\{code\}'/]],
  },
  {
    what: 'a joined table dropped and created again',
    declared: joined('parents'),
    done: 'drop table public.parents; alter table public.parents_next rename to parents',
    found: [
      ['error', /^the watch of public\.parents_lines for .* joins a table that was dropped/],
      ['warning', /^writes to public\.parents_lines invalidate the whole type of parents:\{p\.code\}: /],
    ],
  },
  {
    what: 'a joined table rebuilt and renamed',
    declared: joined('owners'),
    done: 'alter table public.owners rename to owners_former; alter table public.owners_next rename to owners',
    found: [
      [
        'error',
        /^the watch of public\.owners_lines for .* joins public\.owners_former, which was called public\.owners/,
      ],
    ],
  },
  {
    what: 'a column swapped with another',
    declared: watched('swapped', 'id integer, code text, code_next text'),
    done: 'alter table public.swapped rename code to code_former; alter table public.swapped rename code_next to code',
    found: [
      ['error', /^the watch of public\.swapped for .* follows the column code_former, which was called code/],
    ],
  },
  {
    what: 'a column dropped',
    declared: watched('less'),
    done: 'alter table public.less drop column code',
    found: [
      [
        'warning',
        /^writes to public\.less invalidate the whole type of less:\{code\}: .* has no column code$/,
      ],
    ],
  },
  {
    what: 'declarations without triggers (and triggers without declarations), as data without its schema',
    declared: watched('data'),
    done: `delete from cache_invalidation.versions where rel = 'public.data'::regclass`,
    found: [
      ['error', /^data:\{code\} is declared for public\.data, and nothing captures for it$/],
      ['warning', /^there are capture functions without a declaration, .* on the tables .*public\.data/],
    ],
  },
  {
    what: 'a declaration deleted by hand',
    declared: watched('undeclared'),
    done: `delete from cache_invalidation.watches where rel = 'public.undeclared'::regclass`,
    found: [['warning', /^undeclared:\{code\} is captured for public\.undeclared, and no longer declared$/]],
  },
  {
    what: 'an unlogged table',
    declared: watched('unlogged').replace('table', 'unlogged table'),
    found: [['notice', /^public\.unlogged is unlogged/]],
  },
];

/** What is done by roles whose statements fire no event trigger, and what follows from their loss. */
export const UNSEEN: readonly Way[] = [
  {
    what: 'a table dropped and created again',
    declared: watched('unseen'),
    done: 'drop table public.unseen; create table public.unseen (id integer, code text)',
    found: [['error', /^the table of watch \d+ \(unseen:\{code\}\) was dropped$/]],
  },
  {
    what: 'a renamed column',
    declared: watched('moved'),
    done: 'alter table public.moved rename code to codes',
    found: [
      ['warning', /^public\.moved or its columns were renamed, changed, dropped or restored from a dump/],
      ['error', /^triggers, partitions or columns of public\.moved were changed, and nothing followed it/],
    ],
  },
  {
    what: 'a new inheritance child',
    declared: watched('forebears'),
    done: 'create table public.heirs () inherits (public.forebears)',
    found: missing(
      'public.heirs fencepost_public_forebears, public.heirs fencepost_public_forebears_truncate',
    ),
  },
  {
    what: 'a materialized view, of which no REFRESH is seen',
    declared: `create materialized view public.report as select 1; select cache_invalidation.watch('public.report', 'report:*')`,
    found: [
      ['error', /^nothing sees when public\.report is refreshed: the event trigger fencepost_ddl is missing/],
      [
        'warning',
        /^DDL is not seen always, because these event triggers are disabled.*: fencepost_ddl, fencepost_rewrite$/,
      ],
      ['notice', /^there are no event triggers \(fencepost_drop\)/],
    ],
  },
];

/** What needs more than a statement of its own. */
export const MORE: Way['found'] = [
  ['error', /^capture has been paused since /],
  ['error', /^DDL that concerns public\.busy was not followed, at /],
  ['warning', /^public\.busy or its columns were renamed/],
  ['error', /^the outbox holds changes of another server's transactions/],
];
