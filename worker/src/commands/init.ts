/**
 * `fencepost init [FOLDER]`: puts the migrations and the cache module into a Supabase project and says what to do next. It
 * asks neither the database nor Redis, and it never changes a migration, nor a cache.ts and key-types.ts that the application
 * has made its own.
 */
import { resolve } from 'node:path';
import packageJson from '../../package.json' with { type: 'json' };
import { nextSteps } from '../adoption/next-steps.ts';
import {
  destinations,
  type FileState,
  type Plan,
  type PlannedFile,
  planFor,
  REFUSED,
  WRITTEN,
} from '../adoption/plan.ts';
import { checkProject, readProject, writeProject } from '../adoption/project.ts';
import { PACKAGES, readTemplate, templateFolder } from '../adoption/template.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import { paint, print, printJson, type Tone, table } from './output.ts';

export interface InitOptions {
  readonly into: string;
  readonly force: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** @throws WorkerError NO_PROJECT, PROJECT_FILES, and FILES_DIFFER, after which nothing is written */
export async function init(folder: string, options: InitOptions): Promise<ExitCode> {
  const { into, dryRun, json } = options;
  const root = resolve(folder);
  await checkProject(root);
  const template = await readTemplate(templateFolder());
  const plan = planFor(template, await readProject(root, destinations(template, into)), options);
  const files = plan.files.filter(({ state }) => WRITTEN.has(state));
  const refused = plan.files.filter(({ state }) => REFUSED.has(state));
  const isWriting = refused.length === 0 && !dryRun;
  if (isWriting) await writeProject(root, files);

  // As Deno's import map names them, in the versions that this repository tests.
  const pinned = { ...packageJson.dependencies, ...packageJson.devDependencies };
  const imports = Object.fromEntries(PACKAGES.map((name) => [name, `npm:${name}@${pinned[name]}`]));
  if (json) {
    const states = plan.files.map(({ path, state }) => ({ path, state }));
    const written = isWriting ? files.length : 0;
    printJson({ folder: root, written, files: states, laterMigrations: plan.later, imports });
  } else {
    print(table(summary(plan, dryRun)));
  }
  if (refused.length > 0) throw refusal(refused);
  if (json) return ExitCode.ok;
  if (dryRun) print('\nNothing was written, as asked.');
  else print(`\nNext, in ${root}:\n\n${nextSteps({ later: plan.later, imports, into })}`);
  return ExitCode.ok;
}

const WORDS: Record<FileState, { readonly word: string; readonly planned?: string; readonly tone: Tone }> = {
  new: { word: 'written', planned: 'to write', tone: 'ok' },
  replaced: { word: 'replaced', planned: 'to replace', tone: 'warn' },
  same: { word: 'already there', tone: 'dim' },
  yours: { word: 'kept', tone: 'warn' },
  differs: { word: 'differs', tone: 'fail' },
  taken: { word: 'version taken', tone: 'fail' },
};

/** Files that need no attention are counted by folder. All others are named, and in a dry run every file that it would write. */
function summary({ files }: Plan, dryRun: boolean): string[][] {
  const blocked = files.some(({ state }) => REFUSED.has(state));
  const label = (state: FileState) => {
    const { word, planned, tone } = WORDS[state];
    return paint(tone, dryRun || blocked ? (planned ?? word) : word);
  };
  const isCounted = ({ state }: PlannedFile) => state === 'same' || (state === 'new' && !dryRun);
  const counts = new Map<string, { state: FileState; folder: string; count: number }>();
  for (const { state, path } of files.filter(isCounted)) {
    const folder = path.slice(0, path.lastIndexOf('/'));
    const count = counts.get(`${state} ${folder}`)?.count ?? 0;
    counts.set(`${state} ${folder}`, { state, folder, count: count + 1 });
  }
  return [
    ...[...counts.values()].map(({ state, folder, count }) => [
      label(state),
      folder,
      count === 1 ? '1 file' : `${count} files`,
    ]),
    ...files.filter((file) => !isCounted(file)).map((file) => [label(file.state), file.path, remark(file)]),
  ];
}

function remark({ state, by, lacks }: PlannedFile): string {
  if (state === 'yours') return 'yours, and differs from ours';
  if (by !== undefined) return `by ${by}`;
  return lacks === undefined ? '' : `does not ${lacks}`;
}

function refusal(refused: readonly PlannedFile[]): WorkerError {
  const some = (kind: PlannedFile['kind'], state: FileState) =>
    refused.some((file) => file.kind === kind && file.state === state);
  const remedies = [
    some('migration', 'differs')
      ? 'A migration that differs is never replaced, since a database may have it already: bring it back as it was, or, if ' +
        'no database has it, delete it and run this again.'
      : '',
    some('migration', 'taken')
      ? 'Supabase knows a migration by the number in front: rename yours, if no database has it.'
      : '',
    refused.some(({ kind, state, lacks }) => kind === 'module' && state === 'differs' && lacks === undefined)
      ? 'If what differs in the cache module is an older copy of ours, replace it with --force; if it is your own code, ' +
        'put the module elsewhere: --into _shared/fencepost.'
      : '',
    ...refused.flatMap(({ path, lacks }) => (lacks === undefined ? [] : somethingElse(path, lacks))),
  ];
  return new WorkerError(
    'FILES_DIFFER',
    ['Nothing was written, because of the files named above.', ...remedies].filter(Boolean).join('\n'),
    { exitCode: ExitCode.failed },
  );
}

function somethingElse(path: string, lacks: string): string {
  return (
    `${path} does not ${lacks}. If it is something else of yours, put the module elsewhere: --into _shared/fencepost. If it is ` +
    'what you made of ours, let it do that again, or delete it. It is never replaced, not even with --force.'
  );
}
