import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { removePath, temporaryFolder } from './reaper.ts';
import { watchSources } from './reloading-worker.ts';

it('tells of each change of a file that editors replace, and of one that does not build', async () => {
  const folder = await temporaryFolder('watch-sources');
  const entry = join(folder, 'entry.ts');
  const imported = join(folder, 'imported.ts');
  const replace = (text: string) => {
    writeFileSync(`${imported}.new`, text);
    renameSync(`${imported}.new`, imported);
  };
  writeFileSync(entry, "export * from './imported.ts';\n");
  replace('export const value = 0;\n');
  let changes = 0;
  const stop = await watchSources(entry, () => {
    changes += 1;
  });
  try {
    for (const [index, text] of ['1', '(', '22', '333'].entries()) {
      replace(`export const value = ${text};\n`);
      await expect.poll(() => changes).toBe(index + 1);
    }
  } finally {
    await stop();
    await removePath(folder);
  }
});
