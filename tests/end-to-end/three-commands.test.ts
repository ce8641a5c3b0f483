/**
 * The promise of the README's first page, kept literally: `npm start` prints three commands; pasted into a shell they
 * show MISS, HIT, a change made with plain SQL, and MISS with the new value. The worker says in between what it did.
 */
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import type { StackAddresses } from '../../local/stack.ts';
import { tryItCommands } from '../../local/try-it.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** The environment without a project in it: `npm start` then boots a stack of its own. */
const NO_PROJECT = { DATABASE_URL: '', UPSTASH_REDIS_REST_URL: '', UPSTASH_REDIS_REST_TOKEN: '' };

test('the three printed commands do what they say, with psql and without', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'end-to-end-'));
  // Postgres runs as another user when this is root.
  await chmod(scratch, 0o755);
  const local = join(scratch, 'local');
  const stack = execa('npm', ['start'], {
    cwd: repository,
    env: {
      ...NO_PROJECT,
      LOG_LEVEL: 'info',
      // Long, so that a busy machine does not look like an outage of Redis.
      FENCEPOST_CACHE_TIMEOUT_MS: '10000',
      TMPDIR: scratch,
      FENCEPOST_LOCAL_DIR: local,
    },
    reject: false,
    all: true,
    buffer: false,
    stdin: 'ignore',
    detached: true,
  });
  const output = new Output(stack.all);
  try {
    await output.says('Ctrl-C stops everything.');
    const commands = [...output.text.matchAll(/^[123]\. .*\n\n(.+)\n/gm)].map((match) => match[1] ?? '');
    expect(commands).toHaveLength(3);
    const [read = '', change = '', readAgain = ''] = commands;

    const first = answers((await paste(read)).stdout);
    expect(first.map((answer) => answer.cache)).toEqual(['MISS', 'HIT']);
    expect(first[1]?.body).toEqual(first[0]?.body);

    // What it prints where psql is missing, whether or not this machine has it.
    const addresses = JSON.parse(await readFile(join(local, 'stack.json'), 'utf8')) as StackAddresses;
    const [, changeWithNode] = tryItCommands(addresses, false);
    let limit = Number(first[0]?.body.limit);
    for (const command of [change, changeWithNode]) {
      const before = output.text.length;
      expect((await paste(command)).stdout).toMatch(/UPDATE 1/);
      await output.says(/quotas.*UPDATE.*quota:org-acme:\*.*\d ms/i, before);
      const after = answers((await paste(readAgain)).stdout);
      limit += 500_000;
      expect(after.map((answer) => [answer.cache, answer.body.limit])).toEqual([['MISS', limit]]);
    }

    // Beside it a command needs no environment.
    const status = await execa('npx', ['fencepost', 'status', '--json'], {
      cwd: repository,
      env: { ...NO_PROJECT, FENCEPOST_LOCAL_DIR: local },
    });
    expect(status.stderr).toMatch(
      /^fencepost: using the embedded stack of .*stack\.json, as the environment/,
    );
    expect(JSON.parse(status.stdout)).toMatchObject({ heartbeat: 'alive', workers: 1 });
  } finally {
    if (stack.pid !== undefined) process.kill(-stack.pid, 'SIGTERM');
    await stack;
    await rm(scratch, { recursive: true, force: true });
  }
});

/** As a person would: in a shell, in the repository's folder. */
function paste(command: string) {
  return execa('bash', ['-c', command], { cwd: repository });
}

/** The answers of one `curl -i`, which writes headers, an empty line and the body for each. */
function answers(stdout: string): { cache: string | undefined; body: Record<string, unknown> }[] {
  return stdout
    .split(/^HTTP\/1\.1 /m)
    .slice(1)
    .map((answer) => {
      expect(answer).toMatch(/^200/);
      return {
        cache: /^x-cache: (\w+)/im.exec(answer)?.[1],
        body: JSON.parse(/^\{.*\}$/m.exec(answer)?.[0] ?? 'null') as Record<string, unknown>,
      };
    });
}

/** What a process has written so far, and the moment at which it has written a text. */
class Output {
  text = '';
  readonly #stream: NodeJS.ReadableStream;

  constructor(stream: NodeJS.ReadableStream) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => {
      this.text += chunk.toString();
    });
  }

  /** Resolves when the text stands in the output, at or after an offset; rejects with all of it when the output ends before. */
  says(text: string | RegExp, from = 0): Promise<void> {
    const found = () => {
      const rest = this.text.slice(from);
      return typeof text === 'string' ? rest.includes(text) : text.test(rest);
    };
    return new Promise((resolve, reject) => {
      const look = () => {
        if (found()) settle(resolve);
      };
      const end = () => settle(() => reject(new Error(`Ended without saying ${text}:\n${this.text}`)));
      const settle = (outcome: () => void) => {
        this.#stream.off('data', look);
        this.#stream.off('end', end);
        outcome();
      };
      this.#stream.on('data', look);
      this.#stream.on('end', end);
      look();
    });
  }
}
