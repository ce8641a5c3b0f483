#!/usr/bin/env node
/**
 * The command line, `fencepost`. Each command is a file in commands/, loaded when it is called.
 */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { config as loadDotenv } from 'dotenv';
import packageJson from '../package.json' with { type: 'json' };
import type { InitOptions } from './commands/init.ts';
import type { WarmOptions } from './commands/warm.ts';
import { asWorkerError, ExitCode } from './lib/errors.ts';
import { printable } from './lib/text.ts';

// The reader of the output may close it early, as `head` does. The command does its work all the same.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  process.stderr.write(`fencepost: the output could not be written (${error.code}).\n`);
  process.exit(ExitCode.unavailable);
});

// Variables that are set win over the file's.
loadDotenv({ quiet: true });

const STACK_HELP = `
A command works against the project that DATABASE_URL, UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN name, in the
environment or in .env. With none of them set it uses the embedded stack (npm start) of this folder or the nearest one above
it, by .local/stack.json or the one in FENCEPOST_LOCAL_DIR, and says so. "run" is then a second worker, which stands by, on a
free port; a PORT that is set, also by .env, must be free: PORT=0 npx fencepost run.`;

const program = new Command('fencepost')
  .description('Keeps an Upstash Redis cache true to a Supabase Postgres database.')
  .version(packageJson.version)
  .showHelpAfterError('(fencepost --help lists the commands)')
  .addHelpText('after', STACK_HELP)
  .exitOverride();

/** Runs a command; its promise is the exit code. */
async function perform(work: () => Promise<ExitCode>): Promise<void> {
  process.exitCode = await work();
}

/** Runs a command against the project of the environment, else against the embedded stack that runs here. */
function performFor(work: (variables: NodeJS.ProcessEnv) => Promise<ExitCode>): Promise<void> {
  return perform(async () => {
    const { useEmbeddedStack } = await import('./commands/embedded-stack.ts');
    await useEmbeddedStack(process.env, process.cwd());
    return await work(process.env);
  });
}

interface WatchOptions {
  readonly columns?: string[];
  readonly minInterval?: string;
  readonly join?: string;
  readonly json: boolean;
}

function parseNames(text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.every((name) => name !== '')) return names;
  throw new InvalidArgumentError('It must be names of columns, separated by commas.');
}

/** @throws InvalidArgumentError for what is no folder inside supabase/functions */
function parseInnerFolder(text: string): string {
  if (/^\w[\w.-]*(\/\w[\w.-]*)*$/.test(text)) return text;
  throw new InvalidArgumentError('It must be a folder in supabase/functions, such as _shared/fencepost.');
}

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

program
  .command('init')
  .description('puts the migrations and the cache module into a Supabase project, and says what to do next')
  .argument('[folder]', 'the root of the project, which holds supabase/config.toml', '.')
  .option('--into <folder>', 'of supabase/functions, for the cache module', parseInnerFolder, '_shared')
  .option(
    '--force',
    'replaces files of the cache module that differ; never migrations, never key-types.ts',
    false,
  )
  .option('--dry-run', 'shows what would be written, and writes nothing', false)
  .option('--json', 'one JSON document', false)
  .action((folder: string, options: InitOptions) =>
    perform(async () => (await import('./commands/init.ts')).init(folder, options)),
  );

program
  .command('run')
  .description('the worker: delivery, queue, and HTTP for /healthz, /readyz, /metrics and the dashboard')
  .action(() => perform(async () => (await import('./commands/run.ts')).run(process.env)));

program
  .command('doctor')
  .description('every precondition, each with what to do when it fails; exit code 1 if any does')
  .option('--json', 'one JSON document', false)
  .action(({ json }: { json: boolean }) =>
    performFor(async (variables) => (await import('./commands/doctor.ts')).doctor(variables, json)),
  );

program
  .command('status')
  .description('lag, outbox, hit rates against their targets, dead letters, consistency')
  .option('--json', 'one JSON document', false)
  .action(({ json }: { json: boolean }) =>
    performFor(async (variables) => (await import('./commands/status.ts')).status(variables, json)),
  );

program
  .command('cost')
  .description('what readers and worker cost at Upstash in a month, from the commands of the last day')
  .option('--json', 'one JSON document', false)
  .action(({ json }: { json: boolean }) =>
    performFor(async (variables) => (await import('./commands/cost.ts')).cost(variables, json)),
  );

program
  .command('explain')
  .description('which keys a statement would invalidate: runs it in a transaction and rolls back')
  .argument('<statement>', 'one SQL statement, such as "update orders set paid = true where id = 42"')
  .option('--json', 'one JSON document', false)
  .action((statement: string, { json }: { json: boolean }) =>
    performFor(async (variables) =>
      (await import('./commands/explain.ts')).explain(variables, statement, json),
    ),
  );

program
  .command('watch')
  .description('declares that writes to a table invalidate a target; DATABASE_URL must be the owner’s')
  .argument('<table>', 'a table, such as public.orders')
  .argument(
    '<target>',
    'a key with columns in braces, or with a last * for a group, such as "orders:{customer_id}:*"',
  )
  .option('--columns <names>', 'updates count only when one of these changes: a,b', parseNames)
  .option('--min-interval <interval>', 'at once, then at most so often, the last never lost: "1 minute"')
  .option(
    '--join <join>',
    'a parent table that holds columns of the target: "public.orders o on o.id = row.order_id"',
  )
  .option('--json', 'one JSON document', false)
  .action((table: string, target: string, { json, ...options }: WatchOptions) =>
    performFor(async (variables) =>
      (await import('./commands/watch.ts')).watch(variables, { table, target, ...options }, json),
    ),
  );

program
  .command('why')
  .description('whether a key is answered from the cache now, and if not, why; what invalidates it')
  .argument('<key>', 'a cache key, such as order:42:total')
  .option('--json', 'one JSON document', false)
  .action((key: string, { json }: { json: boolean }) =>
    performFor(async (variables) => (await import('./commands/why.ts')).why(variables, key, json)),
  );

program
  .command('warm')
  .description('fills the cache before people ask, after a deployment or a new epoch: asks the readers')
  .argument('<url>', 'an address with columns in braces: "$FUNCTIONS_URL/product?id={id}"')
  .option('--table <table>', 'fill it with the distinct values of a table: public.products')
  .option('--rows <select>', 'or with the rows of a query: "select provider, model from …"')
  .option('--limit <rows>', 'rows to read at most', wholeNumber(1, 100_000), 10_000)
  .option('--concurrency <requests>', 'requests open at a time', wholeNumber(1, 64), 4)
  .option('--timeout-seconds <seconds>', 'for each request', wholeNumber(1, 300), 30)
  .option('--json', 'one JSON document', false)
  .addHelpText('after', '\nFENCEPOST_WARM_TOKEN is who asks: a secret key of the project.')
  .action((url: string, { json, ...options }: WarmOptions & { readonly json: boolean }) =>
    perform(async () => (await import('./commands/warm.ts')).warm(process.env, url, options, json)),
  );

program
  .command('invalidate')
  .description('invalidates by hand and waits until Redis has confirmed')
  .argument('<target...>', 'keys or patterns, such as order:42:total, orders:acme:*, or * for everything')
  .option('--json', 'one JSON document', false)
  .action((targets: string[], { json }: { json: boolean }) =>
    performFor(async (variables) =>
      (await import('./commands/invalidate.ts')).invalidate(variables, targets, json),
    ),
  );

program
  .command('retry')
  .description('puts dead letters, targets that Redis refused again and again, back to work')
  .option('--json', 'one JSON document', false)
  .action(({ json }: { json: boolean }) =>
    performFor(async (variables) => (await import('./commands/retry.ts')).retry(variables, json)),
  );

program
  .command('queue-sql')
  .description(
    'prints the SQL that installs the queue’s tables, for an owner whose worker may create nothing',
  )
  .action(() => perform(async () => (await import('./commands/queue-sql.ts')).queueSqlCommand()));

program
  .command('audit')
  .description('compares a sample of the cache with the database now; exit code 1 when an answer is stale')
  .option('--sample <entries>', 'entries to compare at most', wholeNumber(1, 100_000), 200)
  .option('--json', 'one JSON document', false)
  .action(({ sample, json }: { sample: number; json: boolean }) =>
    performFor(async (variables) =>
      (await import('./commands/audit.ts')).auditCommand(variables, sample, json),
    ),
  );

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  } else {
    const reason = asWorkerError(error);
    process.stderr.write(`fencepost: ${printable(reason.message)}\n`);
    process.exitCode = reason.exitCode;
  }
}
// Connections are closed by now. A socket that a dead peer keeps open must not keep the process alive.
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
process.exit();
