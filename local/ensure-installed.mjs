/**
 * Lets `npm start` and `npm test` work on a fresh clone: installs the packages when they are missing or older than the
 * lock file, then runs the TypeScript file named on the command line. It runs in this process, so that Ctrl-C and SIGTERM reach the
 * program itself.
 *
 * Plain JavaScript on purpose, with Node's own modules only: it runs before anything is installed.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync, statSync } from 'node:fs';
import { constants as system } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isOrphaned, watchParent } from './parent-watch.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(
    `Fencepost needs Node.js 20.19 or newer; this is ${process.versions.node}. Install it from nodejs.org.`,
  );
  process.exit(1);
}

if (isOrphaned()) process.exit(128 + system.signals.SIGTERM);
watchParent();

const modifiedAt = (path) => {
  try {
    return statSync(join(root, path)).mtimeMs;
  } catch {
    return 0;
  }
};

/**
 * `npm install --no-save` rather than `npm ci`: it installs the versions of the lock file too, but keeps what is installed
 * already, and the compiled files in node_modules/.cache.
 *
 * npm writes node_modules/.package-lock.json at the end of an install, so an interrupted one counts as missing.
 */
if (modifiedAt('node_modules/.package-lock.json') < modifiedAt('package-lock.json')) {
  console.log('Installing packages (about a minute the first time) …');
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
  const status = await runToEnd(npm, ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']);
  if (status !== 0) {
    console.error('Installing the packages failed. Check the network, then run the command again.');
    process.exit(status);
  }
}

/** Runs a program and returns its exit code. A signal to this process ends the program, and then this process. */
async function runToEnd(file, parameters) {
  const child = spawn(file, parameters, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32',
  });
  let endedBy;
  const end = (signal) => {
    endedBy ??= signal;
    child.kill('SIGTERM');
    setTimeout(() => child.kill('SIGKILL'), 2_000).unref();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, end);
  const status = await new Promise((done) => {
    child.once('error', () => done(1));
    child.once('exit', (code) => done(code ?? 1));
  });
  if (endedBy !== undefined) process.exit(128 + system.signals[endedBy]);
  for (const signal of signals) process.off(signal, end);
  return status;
}

const script = process.argv[2];
if (script === undefined) {
  console.error('Usage: node local/ensure-installed.mjs FILE.ts [arguments]');
  process.exit(2);
}
process.argv.splice(1, 2, resolve(root, script));

/**
 * tsx keeps compiled files in the system's temporary folder and never removes them. Here they are kept with the clone's packages;
 * where those cannot be written, tsx works without.
 */
const temporaryFolder = process.env.TMPDIR;
const cacheFolder = join(root, 'node_modules/.cache');
try {
  mkdirSync(cacheFolder, { recursive: true });
  accessSync(cacheFolder, constants.W_OK);
  process.env.TMPDIR = cacheFolder;
} catch {
  process.env.TSX_DISABLE_CACHE = '1';
}
const { register } = await import(pathToFileURL(join(root, 'node_modules/tsx/dist/esm/api/index.mjs')).href);
register();
if (temporaryFolder === undefined) delete process.env.TMPDIR;
else process.env.TMPDIR = temporaryFolder;

await import(pathToFileURL(resolve(root, script)).href);
