/**
 * A new cluster with what Supabase adds to a bare server (../bootstrap.sql). Making one takes most of the time of a start, so it
 * is made once and copied from then on. The copy's password is changed before its address is given out.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execute } from './client.ts';
import { PartError } from './part.ts';
import { onFreePort } from './ports.ts';
import { initialise, type PostgresRuntime, runServer } from './postgres-server.ts';
import { runToEnd } from './process.ts';
import { removePath } from './reaper.ts';
import { folderFor } from './unprivileged.ts';

const bootstrapFile = fileURLToPath(new URL('../bootstrap.sql', import.meta.url));
const cacheFolder = fileURLToPath(new URL('../../node_modules/.cache/fencepost-postgres', import.meta.url));

export interface Cluster {
  readonly password: string;
  /** The password to change to before the server is used; undefined when the cluster was there already. */
  readonly nextPassword: string | undefined;
}

/** Makes the cluster in `folder`/data, unless an earlier start left one there. */
export async function ensureCluster(runtime: PostgresRuntime, folder: string): Promise<Cluster> {
  const existing = await readFile(join(folder, 'password'), 'utf8').catch(() => undefined);
  if (existing !== undefined) return { password: existing.trim(), nextPassword: undefined };

  await mkdir(folder, { recursive: true });
  await giveTo(runtime, folder);
  // An earlier start may have been killed while it copied.
  await rm(join(folder, 'data'), { recursive: true, force: true });
  const pristine = await pristineCluster(runtime);
  await copy(join(pristine.folder, 'data'), join(folder, 'data'));
  await giveTo(runtime, join(folder, 'data'));
  const password = (await readFile(join(pristine.folder, 'password'), 'utf8')).trim();
  await pristine.discard();
  return { password, nextPassword: randomBytes(18).toString('base64url') };
}

/** Makes the next password the password: of the server first, then of the file that a restart reads. */
export async function changePassword(url: string, folder: string, next: string): Promise<string> {
  // Utility statements take no parameters; base64url cannot end a literal.
  await execute(url, `alter role postgres password '${next}'`);
  await writeFile(join(folder, 'password'), `${next}\n`, { mode: 0o600 });
  const changed = new URL(url);
  changed.password = next;
  return changed.href;
}

/** The cluster to copy: from the cache, or made now and put there; where nothing can be kept, made for this once. */
async function pristineCluster(
  runtime: PostgresRuntime,
): Promise<{ folder: string; discard(): Promise<void> }> {
  const { kind, name } = await identity(runtime);
  const cached = join(cacheFolder, name);
  const inCache = { folder: cached, discard: () => Promise.resolve() };
  // The password is written last: where it exists, the cluster is complete.
  if (await isReadable(join(cached, 'password'))) return inCache;

  const made = await folderFor(runtime.user, 'cluster');
  try {
    await make(runtime, made);
  } catch (error) {
    await removePath(made);
    throw error;
  }
  try {
    await mkdir(cacheFolder, { recursive: true });
    const draft = await mkdtemp(join(cacheFolder, 'draft-'));
    await copy(join(made, 'data'), join(draft, 'data'));
    await copy(join(made, 'password'), join(draft, 'password'));
    // Another process may have put the same cluster there first.
    await rename(draft, cached).catch(() => rm(draft, { recursive: true, force: true }));
    for (const other of await readdir(cacheFolder)) {
      if (other.startsWith(kind) && other !== name) await rm(join(cacheFolder, other), { recursive: true });
    }
  } catch {
    // A read-only installation: every start makes its own.
  }
  return { folder: made, discard: () => removePath(made) };
}

async function make(runtime: PostgresRuntime, folder: string): Promise<void> {
  const password = randomBytes(18).toString('base64url');
  await writeFile(join(folder, 'password'), `${password}\n`, { mode: 0o600 });
  await giveTo(runtime, join(folder, 'password'));
  await initialise(runtime, folder);
  const sql = await readFile(bootstrapFile, 'utf8');
  const { server, port } = await onFreePort({}, async (free) => ({
    server: await runServer(runtime, folder, free),
    port: free,
  }));
  try {
    // template1 too: every database made later starts with it.
    for (const database of ['template1', 'postgres']) {
      await execute(`postgresql://postgres:${password}@127.0.0.1:${port}/${database}`, sql);
    }
  } catch (error) {
    throw new PartError('PART_START_FAILED', 'Postgres refused local/bootstrap.sql.', { cause: error });
  } finally {
    await server.stop();
  }
}

/** The name in the cache: what a cluster depends on. `kind` is the part that several states of bootstrap.sql share. */
async function identity({ release, user }: PostgresRuntime): Promise<{ kind: string; name: string }> {
  const kind = `${release}-${user?.uid ?? process.getuid?.() ?? 0}-`;
  const sql = await readFile(bootstrapFile);
  return { kind, name: kind + createHash('sha256').update(sql).digest('hex').slice(0, 16) };
}

async function isReadable(file: string): Promise<boolean> {
  return await readFile(file).then(
    () => true,
    () => false,
  );
}

/** Modes are kept: Postgres refuses a cluster that others could read. */
async function copy(from: string, to: string): Promise<void> {
  await runFileCommand('cp', ['-a', ...(process.platform === 'linux' ? ['--reflink=auto'] : []), from, to]);
}

async function giveTo({ user }: PostgresRuntime, path: string): Promise<void> {
  if (user !== undefined) await runFileCommand('chown', ['-R', `${user.uid}:${user.gid}`, path]);
}

/** As a part's process: where this one ends, the reaper ends the copying before it removes the copy. */
async function runFileCommand(file: string, parameters: readonly string[]): Promise<void> {
  await runToEnd({ name: `Preparing Postgres (${file})`, file, arguments: parameters, readyWithin: 60_000 });
}
