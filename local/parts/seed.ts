/**
 * What a fresh database is filled with: the files that supabase/config.toml names under [db.seed], in their order, which
 * is what `supabase db reset` and `supabase db push --include-seed` load.
 */
import { readFile } from 'node:fs/promises';
import { execute } from './client.ts';

const supabase = new URL('../../supabase/', import.meta.url);

/** @throws when the configuration names no file, or one that is not there, or its SQL fails */
export async function loadSeed(databaseUrl: string): Promise<void> {
  for (const file of await seedFiles()) await execute(databaseUrl, await readFile(file, 'utf8'));
}

async function seedFiles(): Promise<URL[]> {
  const configuration = await readFile(new URL('config.toml', supabase), 'utf8');
  const list = /^\[db\.seed\]$[^[]*^sql_paths = \[([^\]]*)\]/m.exec(configuration)?.[1] ?? '';
  const files = [...list.matchAll(/"([^"]+)"/g)].map(([, path = '']) => new URL(path, supabase));
  if (files.length === 0) throw new Error('supabase/config.toml names no file under [db.seed] sql_paths.');
  return files;
}
