/**
 * Migrations by the same program that a user runs against a Supabase project: `supabase db push`. Nothing here knows
 * what they contain, so what works here works there.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PartError } from './part.ts';
import { runToEnd } from './process.ts';
import { removePath, temporaryFolder } from './reaper.ts';

/** The folder that holds `supabase/`. */
const repository = fileURLToPath(new URL('../..', import.meta.url));

/** The command line's wrapper, which picks the binary for this system. */
const cli = join(
  dirname(createRequire(import.meta.url).resolve('supabase/package.json')),
  'dist/supabase.js',
);

/**
 * Applies what is not yet applied of supabase/migrations, in order, and records it as Supabase does.
 * @param databaseUrl a superuser, or the `postgres` role of a Supabase project
 * @param workdir the folder that holds `supabase/`; default this repository
 * @param options.includeAll also those that are older than one already applied, which are an error otherwise
 * @throws PartError MIGRATIONS_FAILED with what the command line said
 */
export async function applyMigrations(
  databaseUrl: string,
  workdir = repository,
  options: { readonly includeAll?: boolean } = {},
): Promise<void> {
  const home = await temporaryFolder('supabase');
  try {
    await runToEnd({
      name: 'supabase db push',
      file: process.execPath,
      arguments: [
        ...[cli, 'db', 'push', `--remote=${withoutTls(databaseUrl)}`, '--yes', '--workdir', workdir],
        ...(options.includeAll === true ? ['--include-all'] : []),
      ],
      // Nothing of the user's: no keyring, no telemetry, no look for a newer version, no PGSSLMODE of another project.
      inheritEnvironment: false,
      environment: {
        PATH: process.env.PATH ?? '/usr/bin:/bin',
        HOME: home,
        SUPABASE_HOME: home,
        SUPABASE_NO_KEYRING: '1',
        SUPABASE_NO_UPDATE_NOTIFIER: '1',
        SUPABASE_TELEMETRY_DISABLED: '1',
        DO_NOT_TRACK: '1',
      },
      folder: home,
      readyWithin: 120_000,
    });
  } catch (error) {
    throw new PartError('MIGRATIONS_FAILED', error instanceof Error ? error.message : String(error), {
      cause: error,
    });
  } finally {
    await removePath(home);
  }
}

/** The server on the loopback interface has no certificate; asking for TLS first would cost a round and a warning. */
function withoutTls(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  const isLocal = ['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname);
  if (isLocal && !url.searchParams.has('sslmode')) url.searchParams.set('sslmode', 'disable');
  return url.href;
}
