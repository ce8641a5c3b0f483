/**
 * `npm start`. With a project in the environment or in .env (DATABASE_URL, UPSTASH_REDIS_REST_URL and _TOKEN) it runs the
 * worker against that, in this process. With none of the three set it boots the whole stack locally; `npm run dev` is that, with
 * a worker that is restarted when its sources change.
 *
 * It ends the same way at any moment:
 *   starting or up ── SIGINT, SIGTERM, SIGHUP, or npm gone ──▶ stopping ── all parts stopped, or 3 s over ──▶ sealed
 *   sealed ── the reaper ends what is left within 1 s and removes the temporary folders ──▶ this process exits
 * After a crash or `kill -9` the reaper does the same. Nothing outlives this process by more than two seconds.
 */
import { existsSync, readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseEnv } from 'node:util';
import { isOrphaned, unwatchParent } from './parent-watch.mjs';
import { dismissReaper, guardFile, removeFile } from './parts/reaper.ts';
import { AlreadyRunning, takeLock } from './single-start.ts';
import type { StackAddresses } from './stack.ts';
import { findCommand } from './system-packages.ts';
import { describeAddresses, tryItCommands } from './try-it.ts';

const repository = fileURLToPath(new URL('..', import.meta.url));

/** Stable addresses from one start to the next; below the range that systems hand out to outgoing connections. */
const PORTS = { worker: 8787, functions: 8788, api: 8789, upstash: 8790, postgres: 8791, redis: 8792 };

/** How long the parts may take to stop in order. Stopping takes 5 s at most; the rest is the reaper's. */
const ORDERLY_MS = 3_000;

const PROJECT = ['DATABASE_URL', 'UPSTASH_REDIS_REST_URL', 'UPSTASH_REDIS_REST_TOKEN'];

/** As the worker's own exit code for a configuration that does not fit. */
const EXIT_CONFIGURATION = 78;

// npm ended while this was loading. From here on the parent watch notices.
if (isOrphaned()) process.exit(128 + constants.signals.SIGTERM);

for (const [name, value] of Object.entries(dotEnv())) process.env[name] ??= value;
/** FENCEPOST_LOCAL_DIR gives a second stack of the same clone a place of its own; tests run side by side that way. */
const localFolder = process.env.FENCEPOST_LOCAL_DIR?.trim() || join(repository, '.local');
const stackFile = join(localFolder, 'stack.json');
const given = PROJECT.filter((name) => (process.env[name] ?? '').trim() !== '');
if (given.length > 0) await runWorker();
else await runStack();

/** Runs `fencepost run`, which reports every malformed setting at once and sets the exit code. */
async function runWorker(): Promise<void> {
  const missing = PROJECT.filter((name) => !given.includes(name));
  if (missing.length > 0) {
    console.error(
      `${list(given)} set, but ${list(missing)} missing. Set all three (in the environment or in .env, see .env.example) ` +
        'to run the worker against your project, or none of them for a complete local stack.',
    );
    process.exit(EXIT_CONFIGURATION);
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      unwatchParent();
      // Once the worker is loaded it handles the signal too, and stops in order.
      if (process.listenerCount(signal) === 1) process.exit(128 + constants.signals[signal]);
    });
  }
  process.argv.splice(2, process.argv.length, 'run');
  await import('../worker/src/cli.ts');
}

function list(names: readonly string[]): string {
  return `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'}`;
}

/**
 * Checks what the worker would refuse only after half the stack has started.
 * @returns the port that PORT asks for
 */
async function checkStackSettings(): Promise<number | undefined> {
  const settings = passedOn(['PORT', 'LOG_LEVEL', 'CACHE_PREFIX']);
  if (Object.values(settings).every((value) => value.trim() === '')) return undefined;
  const { readConfiguration } = await import('../worker/src/lib/config.ts');
  try {
    const { port } = readConfiguration({
      DATABASE_URL: 'postgresql://127.0.0.1/postgres',
      UPSTASH_REDIS_REST_URL: 'http://127.0.0.1',
      UPSTASH_REDIS_REST_TOKEN: 'none',
      ...settings,
    });
    return settings.PORT === undefined || settings.PORT.trim() === '' ? undefined : port;
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(EXIT_CONFIGURATION);
  }
}

async function runStack(): Promise<void> {
  const workerPort = await checkStackSettings();
  const startedAt = performance.now();
  const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`;
  let stop: () => Promise<unknown> = () => Promise.resolve();
  let leaving = false;

  const leave = async (reason: string, exitCode: number): Promise<never> => {
    if (leaving) {
      // A second request ends it at once.
      await dismissReaper({ seal: true });
      process.exit(exitCode);
    }
    leaving = true;
    unwatchParent();
    if (reason !== '') console.log(`\n${reason}`);
    await Promise.race([stop(), new Promise((resolve) => setTimeout(resolve, ORDERLY_MS))]);
    await dismissReaper({ seal: true });
    process.exit(exitCode);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => void leave('Stopping …', 0));
  }
  // A closed pipe (`npm start | head`) must not keep the stack from stopping in order.
  process.stdout.on('error', () => void leave('', 0));

  try {
    const lock = await takeLock(localFolder);
    stop = () => lock.release();
    console.log(
      'Fencepost: starting a complete local stack. (To run the worker against your own project, see .env.example.)\n\n' +
        '  Starting Postgres and Redis …',
    );
    // Loaded after the line above is printed: loading takes as long as a part.
    const { startStack } = await import('./stack.ts');
    if (leaving) return;
    const stack = await startStack({
      ports: PORTS,
      workerPort,
      reload: process.argv.includes('--dev'),
      environment: passedOn(['CACHE_PREFIX', 'FENCEPOST_CACHE_TIMEOUT_MS', 'LOG_LEVEL', 'TZ', 'NO_COLOR']),
      onReady: (part, milliseconds) => console.log(`  ${part.padEnd(16)} ready in ${seconds(milliseconds)}`),
      onNotice: (line) => {
        if (!leaving) console.log(`  ${line}`);
      },
      onLine: (part, line) => console.log(part === 'worker' ? line : `[${part}] ${line}`),
    });
    stop = async () => {
      await Promise.allSettled([stack.stop(), removeFile(stackFile, stack.addresses.upstashToken)]);
      await lock.release();
    };
    if (leaving) return;
    await writeStackFile(stack.addresses);
    const commands = tryItCommands(stack.addresses, (await findCommand(['psql'])) !== undefined);
    const titles = [
      'Read a quota twice: x-cache is MISS, then HIT.',
      'Change it. The worker says here what it invalidated.',
      'Read it again: MISS, and the new limit.',
    ];
    console.log(
      `\nReady in ${seconds(performance.now() - startedAt)}.\n\n${describeAddresses(stack.addresses, relative(process.cwd(), stackFile))}\n`,
    );
    console.log('Try it: paste these into another terminal, in this folder.\n');
    for (const [index, command] of commands.entries()) {
      console.log(`${index + 1}. ${titles[index]}\n\n${command}\n`);
    }
    console.log('Ctrl-C stops everything.\n');
  } catch (error) {
    if (leaving) return;
    console.error(`\n${error instanceof Error ? error.message : String(error)}`);
    await leave(
      error instanceof AlreadyRunning ? '' : 'The stack did not start; everything is stopped again.',
      1,
    );
  }
}

/** Written whole or not at all, and readable by this user only: it holds a superuser's password. */
async function writeStackFile(addresses: StackAddresses): Promise<void> {
  const draft = `${stackFile}.${process.pid}`;
  guardFile(draft, addresses.upstashToken);
  guardFile(stackFile, addresses.upstashToken);
  await writeFile(draft, `${JSON.stringify(addresses, null, 2)}\n`, { mode: 0o600 });
  await rename(draft, stackFile);
}

function dotEnv(): Record<string, string> {
  const file = join(repository, '.env');
  if (!existsSync(file)) return {};
  return Object.fromEntries(
    Object.entries(parseEnv(readFileSync(file, 'utf8'))).flatMap(([name, value]) =>
      value === undefined || value.trim() === '' ? [] : [[name, value]],
    ),
  );
}

function passedOn(names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name] ?? '']])),
  );
}
