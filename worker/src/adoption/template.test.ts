import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { KEY_TYPES, KEY_TYPES_EXPORTS } from './plan.ts';
import { MODULES, readTemplate, templateFolder } from './template.ts';

it('is the engine and the cache module, without tests, tables of the workbench and other folders', async () => {
  const { migrations, modules } = await readTemplate(templateFolder());
  for (const { name } of migrations) expect(name).toMatch(/^\d+_fencepost_\w+\.sql$/);
  for (const { name } of modules) expect(name).toMatch(/^(cache|key-types|cache\/\w+\/[\w-]+)\.ts$/);
  expect(modules.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['cache.ts', KEY_TYPES, 'cache/protocol/keys.ts', 'cache/client/lookup.ts']),
  );
});

it('checks of key-types.ts exactly what cache.ts imports from it', async () => {
  const source = await readFile(join(templateFolder(), MODULES, 'cache.ts'), 'utf8');
  const lists = [...source.matchAll(/^(?:import|export) \{([^}]*)\} from '\.\/key-types\.ts';$/gm)];
  const names = lists.flatMap(([, list = '']) => list.split(',').map((name) => name.trim()));
  expect([...new Set(names)].sort()).toEqual(KEY_TYPES_EXPORTS.toSorted());
});
