/**
 * One Postgres for many tests: migrated and seeded once into a template database, of which every caller gets a clone
 * of its own in some 50 ms. Used by the vitest setup beside this file; benchmarks use it directly.
 */
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { execute } from '../../local/parts/client.ts';
import { applyMigrations } from '../../local/parts/migrations.ts';
import { once, type Part } from '../../local/parts/part.ts';
import { type PostgresOptions, startPostgres, withDatabase } from '../../local/parts/postgres.ts';
import { installQueue } from '../../worker/src/queue/install.ts';

const TEMPLATE = 'fencepost_template';
const migrations = fileURLToPath(new URL('../../supabase/migrations', import.meta.url));
const seed = fileURLToPath(new URL('../../supabase/seed.sql', import.meta.url));

export interface ClonedDatabase {
  /** Superuser `postgres`. */
  readonly url: string;
  /** Ends whatever is still connected to the clone and removes it. */
  drop(): Promise<void>;
}

/**
 * Starts a server and prepares the template.
 * @throws PartError when Postgres does not start or the migrations fail
 */
export async function startTemplate(options?: PostgresOptions): Promise<Part & { url: string }> {
  const postgres = await startPostgres(options);
  try {
    await execute(postgres.url, `create database ${TEMPLATE}`);
    const url = withDatabase(postgres.url, TEMPLATE);
    if (existsSync(migrations) && readdirSync(migrations).some((file) => file.endsWith('.sql'))) {
      await applyMigrations(url);
      // Here once, so that not every worker of every clone does it.
      await installQueue(url);
    }
    // What the migrations' watches invalidated as they began is no concern of the tests.
    await execute(url, 'delete from cache_invalidation.changes');
    if (existsSync(seed)) await execute(url, await readFile(seed, 'utf8'));
  } catch (error) {
    await postgres.stop();
    throw error;
  }
  return { name: postgres.name, url: postgres.url, stop: postgres.stop };
}

let clones = 0;

/** @param serverUrl what startTemplate returned */
export async function cloneFrom(serverUrl: string): Promise<ClonedDatabase> {
  clones += 1;
  const name = `test_${process.pid}_${clones}`;
  await execute(serverUrl, `create database ${name} template ${TEMPLATE}`);
  return {
    url: withDatabase(serverUrl, name),
    drop: once(() => execute(serverUrl, `drop database if exists ${name} with (force)`)),
  };
}
