/**
 * Herds across isolates, with real processes: 200 readers in 10 of them, and a leader that is killed while it loads.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { startHttp } from '../../local/parts/http.ts';
import { TOKEN, useUpstash } from '../support/upstash.ts';

const upstash = useUpstash();
let folder: string;
const children = new Set<ChildProcess>();

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fencepost-herd-'));
  buildSync({
    entryPoints: [fileURLToPath(new URL('herd-reader.ts', import.meta.url))],
    outfile: join(folder, 'reader.mjs'),
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    logLevel: 'error',
  });
});

afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Report {
  readonly values: readonly string[];
  readonly lines: readonly string[];
}

interface Reader {
  readonly child: ChildProcess;
  readonly ready: Promise<void>;
  readonly report: Promise<Report>;
  start(): void;
}

function startReader(loaderUrl: string, key: string, leaseMs: number): Reader {
  const child = spawn(
    process.execPath,
    [join(folder, 'reader.mjs'), upstash.gateway.url, TOKEN, loaderUrl, key, String(leaseMs)],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  children.add(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ready = lines.next().then(() => {});
  const report = ready.then(async () => JSON.parse((await lines.next()).value ?? 'null') as Report);
  return { child, ready, report, start: () => child.stdin.write('go\n') };
}

/** Takes the database's place: counts loads and lets the test decide when each is answered. */
async function startLoader(answer: (response: ServerResponse, load: number) => void) {
  let loads = 0;
  const { url, stop } = await startHttp({
    name: 'loader',
    listener: (_, response) => answer(response, ++loads),
  });
  onTestFinished(stop);
  return { url, loads: () => loads };
}

describe('a herd', () => {
  it('of 200 cold readers in 10 processes causes at most 2 loads, and all get the same answer', async () => {
    // Ten processes on a busy machine may take longer than the default lease to get their turn.
    const loader = await startLoader((response, load) => response.end(`row ${load}`));
    const readers = Array.from({ length: 10 }, () =>
      startReader(loader.url, 'quota:herd:openai:gpt-5', 20_000),
    );
    await Promise.all(readers.map(({ ready }) => ready));
    for (const reader of readers) reader.start();
    const reports = await Promise.all(readers.map(({ report }) => report));
    expect(reports.flatMap(({ lines }) => lines)).toEqual([]);
    expect(loader.loads()).toBeLessThanOrEqual(2);
    const values = reports.flatMap(({ values: got }) => got);
    expect(values).toHaveLength(200);
    for (const value of values) expect(value).toMatch(/^row [12]$/);
  });

  it('whose leader is killed loads once more, without it', async () => {
    let firstArrived: () => void = () => {};
    const arrived = new Promise<void>((resolve) => {
      firstArrived = resolve;
    });
    const loader = await startLoader((response, load) => {
      // The first load is never answered: its process is killed while it waits.
      if (load === 1) firstArrived();
      else response.end(`row ${load}`);
    });
    const key = 'quota:killed:openai:gpt-5';
    // Readers wait as long as their own lease. The others' is longer than the leader's, so that on a busy machine, too, they are still
    // waiting when its lease has ended and one of them has loaded.
    const readers = [3_000, ...Array<number>(5).fill(30_000)].map((leaseMs) =>
      startReader(loader.url, key, leaseMs),
    );
    await Promise.all(readers.map(({ ready }) => ready));
    const [leader, ...others] = readers;
    leader?.start();
    await arrived;
    leader?.child.kill('SIGKILL');
    for (const reader of others) reader.start();
    const reports = await Promise.all(others.map(({ report }) => report));
    expect(reports.flatMap(({ lines }) => lines)).toEqual([]);
    // One load for the dead leader, one for its successor; a second successor may read just before the first has stored.
    expect(loader.loads()).toBeLessThanOrEqual(3);
    for (const { values } of reports) expect(new Set(values).size).toBe(1);
  });
});
