#!/usr/bin/env node
/**
 * The command line, `fencepost`. Each command is a file in commands/, loaded when it is called.
 */
import { Command, CommanderError } from 'commander';
import { config as loadDotenv } from 'dotenv';
import packageJson from '../package.json' with { type: 'json' };
import { asWorkerError } from './errors.ts';
import { ExitCode } from './exit-codes.ts';

// Variables that are set win over the file's.
loadDotenv({ quiet: true });

const program = new Command('fencepost')
  .description('Keeps an Upstash Redis cache true to a Supabase Postgres database.')
  .version(packageJson.version)
  .showHelpAfterError('(fencepost --help lists the commands)')
  .exitOverride();

/** Runs a command's function; its promise is the exit code. */
function perform(work: () => Promise<ExitCode>): () => Promise<void> {
  return async () => {
    process.exitCode = await work();
  };
}

program
  .command('run')
  .description('the worker: drain, queue, and HTTP for /healthz, /readyz and /metrics')
  .action(perform(async () => (await import('./commands/run.ts')).run(process.env)));

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  } else {
    const reason = asWorkerError(error);
    process.stderr.write(`fencepost: ${reason.message}\n`);
    process.exitCode = reason.exitCode;
  }
}
// Connections are closed by now; a socket that a dead peer keeps open must not keep the process alive.
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
process.exit();
