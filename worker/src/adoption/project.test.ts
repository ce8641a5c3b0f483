import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { removePath } from '../../../local/parts/reaper.ts';
import { folderFor, unprivilegedUser } from '../../../local/parts/unprivileged.ts';
import { checkProject, readProject, writeProject } from './project.ts';

const user = await unprivilegedUser();
let folder: string;
beforeEach(async () => {
  folder = await folderFor(user, 'init');
});
afterEach(async () => {
  await removePath(folder);
});

const everything = () => readdirSync(folder, { recursive: true }).map(String).sort();

/** Root may write anywhere, so for the time of the work it steps down. */
async function asOrdinaryUser(work: () => Promise<void>): Promise<void> {
  if (user === undefined) return await work();
  process.seteuid?.(user.uid);
  try {
    await work();
  } finally {
    process.seteuid?.(0);
  }
}

it('says of a folder what is missing', async () => {
  await expect(checkProject(join(folder, 'nowhere'))).rejects.toMatchObject({
    code: 'NO_PROJECT',
    exitCode: 64,
    message: expect.stringContaining(`no folder ${join(folder, 'nowhere')}`),
  });
  mkdirSync(join(folder, 'supabase/config.toml'), { recursive: true });
  await expect(checkProject(folder)).rejects.toMatchObject({
    exitCode: 78,
    message: expect.stringContaining('npx supabase init'),
  });
});

it('reads what is there', async () => {
  expect(await readProject(folder, ['supabase/a.ts'])).toEqual({ migrations: [], texts: new Map() });
  await writeProject(folder, [{ path: 'supabase/migrations/1_a.sql', text: 'select 1;' }]);
  expect(await readProject(folder, ['supabase/a.ts', 'supabase/migrations/1_a.sql'])).toEqual({
    migrations: ['1_a.sql'],
    texts: new Map([['supabase/migrations/1_a.sql', 'select 1;']]),
  });
  await expect(readProject(folder, ['supabase/migrations'])).rejects.toMatchObject({
    code: 'PROJECT_FILES',
    message: expect.stringContaining('supabase/migrations cannot be read'),
  });
});

it('sees a link that leads nowhere', async () => {
  symlinkSync('nowhere.ts', join(folder, 'a.ts'));
  const { texts } = await readProject(folder, ['a.ts', 'b.ts']);
  expect(texts).toEqual(new Map([['a.ts', '']]));
});

it('writes and replaces, and leaves nothing else behind', async () => {
  writeFileSync(join(folder, 'a.ts'), 'old');
  await writeProject(folder, [
    { path: 'a.ts', text: 'new' },
    { path: 'deep/er/b.ts', text: 'b' },
  ]);
  expect(everything()).toEqual(['a.ts', 'deep', 'deep/er', 'deep/er/b.ts']);
  expect(readFileSync(join(folder, 'a.ts'), 'utf8')).toBe('new');
});

it('writes nothing when the last file cannot be written', async () => {
  writeFileSync(join(folder, 'a.ts'), 'old');
  writeFileSync(join(folder, 'functions'), 'a file where a folder should be');
  const before = everything();
  await expect(
    writeProject(folder, [
      { path: 'a.ts', text: 'new' },
      { path: 'deep/er/b.ts', text: 'b' },
      { path: 'functions/_shared/c.ts', text: 'c' },
    ]),
  ).rejects.toMatchObject({
    code: 'PROJECT_FILES',
    exitCode: 78,
    message: expect.stringMatching(/^Nothing was changed: functions\/_shared\/c\.ts cannot be written/),
  });
  expect(everything()).toEqual(before);
  expect(readFileSync(join(folder, 'a.ts'), 'utf8')).toBe('old');
});

it('writes nothing into a project of which one folder is read-only', async () => {
  mkdirSync(join(folder, 'functions'), { mode: 0o555 });
  await asOrdinaryUser(async () => {
    await expect(
      writeProject(folder, [
        { path: 'migrations/1_a.sql', text: 'select 1;' },
        { path: 'functions/c.ts', text: 'c' },
      ]),
    ).rejects.toMatchObject({
      code: 'PROJECT_FILES',
      exitCode: 77,
      message: expect.stringContaining('EACCES'),
    });
  });
  expect(everything()).toEqual(['functions']);
  expect(existsSync(join(folder, 'migrations'))).toBe(false);
});
