import { expect, it } from 'vitest';
import { importsOf, moduleGraph } from './imports.ts';

it('finds every form of import, and none in a comment or a text', () => {
  const source = `/**
 *     import { getOrSet } from '../_shared/in-an-example.ts';
 */
// import './switched-off.ts';
import { one } from './one.ts';
import type { Two } from './two.ts';
import {
  three,
  type Four as Five,
} from './three.ts';
import whole, * as all from './whole.ts';
import './effect.ts';
import { Redis } from '@upstash/redis';
export { six } from './six.ts';
export * from './star.ts';
export type { Seven } from './seven.ts';
export const text = "it is copied from './nowhere.ts'";
export interface Moved { from: 'x'; to: 'y' }
const later = await import('./later.ts');
`;
  expect(importsOf(source)).toEqual([
    ...['./one.ts', './two.ts', './three.ts', './whole.ts', './effect.ts', '@upstash/redis'],
    ...['./six.ts', './star.ts', './seven.ts', './later.ts'],
  ]);
});

it('follows imports through folders and circles, and passes on what cannot be read', async () => {
  const sources: Record<string, string> = {
    'entry.ts': `import './parts/a.ts';\nimport { createHash } from 'node:crypto';`,
    'parts/a.ts': `import type { B } from './b.ts';\nimport 'some-package';`,
    'parts/b.ts': `export { c } from '../c.ts';`,
    'c.ts': `import './entry.ts';`,
    'unrelated.ts': '',
  };
  const read = async (file: string) => {
    const source = sources[file];
    if (source === undefined) throw new Error(`no ${file}`);
    return source;
  };
  expect(await moduleGraph('entry.ts', read)).toEqual({
    files: ['c.ts', 'entry.ts', 'parts/a.ts', 'parts/b.ts'],
    packages: ['some-package'],
  });
  sources['c.ts'] = `import './missing.ts';`;
  await expect(moduleGraph('entry.ts', read)).rejects.toThrow('no missing.ts');
});
