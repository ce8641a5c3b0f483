import { expect, it } from 'vitest';
import { planFor } from './plan.ts';
import { readTemplate, templateFolder } from './template.ts';

it('is the engine and the cache module, without tests, tables of the workbench and other folders', async () => {
  const { migrations, modules } = await readTemplate(templateFolder());
  for (const { name } of migrations) expect(name).toMatch(/^\d+_fencepost_\w+\.sql$/);
  for (const { name } of modules) expect(name).toMatch(/^(cache|key-types|cache\/\w+\/[\w-]+)\.ts$/);
  expect(modules.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['cache.ts', 'key-types.ts', 'cache/protocol/keys.ts', 'cache/client/lookup.ts']),
  );
});

it('knows what an application makes of cache.ts and key-types.ts by what our own have', async () => {
  const template = await readTemplate(templateFolder());
  const own = template.modules.filter(({ name }) => name === 'cache.ts' || name === 'key-types.ts');
  const texts = new Map(
    own.map(({ name, text }) => [`supabase/functions/_shared/${name}`, `${text}// mine\n`]),
  );
  for (const force of [false, true]) {
    const { files } = planFor(template, { migrations: [], texts }, { into: '_shared', force });
    expect(files.filter(({ path }) => texts.has(path)).map(({ state }) => state)).toEqual(['yours', 'yours']);
  }
  for (const { text } of own) expect(text).not.toMatch(/starter|\.\.\/|workbench|session|quota/i);
});
