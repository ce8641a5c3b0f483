import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { jwtVerify } from 'jose';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readSettings } from '../../supabase/functions/_shared/http/settings.ts';
import { types } from '../../supabase/functions/_shared/key-types.ts';
import { readConfiguration } from '../../worker/src/lib/config.ts';
import { type Compose, problemsOf, type Service, withDefaults } from './support/compose-check.ts';
import { installPackage } from './support/installed-package.ts';

/**
 * There is no container engine where these tests run, so nothing is built here: the files are parsed, and everything in
 * them that refers to something else is followed.
 */
const repository = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(repository, path), 'utf8');

const compose = parse(read('docker-compose.yml'), { merge: true }) as Compose;
const services = Object.entries(compose.services);

const set = (service: Service | undefined, changes: Service) => Object.assign(service ?? {}, changes);

describe('docker-compose.yml', () => {
  it('has the parts of the design', () => {
    expect(Object.keys(compose.services)).toEqual(
      expect.arrayContaining([
        'database',
        'migrations',
        'api',
        'redis',
        'upstash',
        'functions',
        'worker',
        'prometheus',
        'grafana',
      ]),
    );
    const inProfile = services.filter(([, service]) => service.profiles !== undefined).map(([name]) => name);
    expect(inProfile.sort()).toEqual(['grafana', 'prometheus']);
  });

  it('is sound', () => {
    expect(problemsOf(compose, repository)).toEqual([]);
    expect(compose.services.worker).toMatchObject({ read_only: true, cap_drop: ['ALL'] });
  });

  /** Each breaks one thing, which must be found: a check that cannot fail is none. */
  const breakages: [string, (services: Record<string, Service>) => unknown][] = [
    ['redis: redis:latest names no version', ({ redis }) => set(redis, { image: 'redis:latest' })],
    ['redis: redis names no version', ({ redis }) => set(redis, { image: 'redis' })],
    [
      'worker: worker/Containerfile does not exist',
      ({ worker }) => set(worker, { build: { context: '.', dockerfile: 'worker/Containerfile' } }),
    ],
    [
      'api: waits for sql, which is no service',
      ({ api }) => set(api, { depends_on: { sql: { condition: 'service_started' } } }),
    ],
    [
      'upstash: waits for the health of redis, which has no health check',
      ({ redis }) => delete redis?.healthcheck,
    ],
    [
      'worker: waits for the end of migrations, which is started again and again',
      ({ migrations }) => set(migrations, { restart: 'always' }),
    ],
    [
      'grafana: dashboards is no config',
      ({ grafana }) => grafana?.configs?.push({ source: 'dashboards', target: '/etc/d.json' }),
    ],
    ['database: data is no volume', ({ database }) => set(database, { volumes: ['data:/var/lib/data'] })],
    [
      'functions: ./functions does not exist',
      ({ functions }) => set(functions, { volumes: ['./functions:/home/deno/functions:ro'] }),
    ],
    [
      'functions: ./supabase/functions could be written from the container',
      ({ functions }) => set(functions, { volumes: ['./supabase/functions:/home/deno/functions'] }),
    ],
    [
      'database: 5432:5432 is open to more than this machine',
      ({ database }) => set(database, { ports: ['5432:5432'] }),
    ],
    ['port 9090 is published twice', ({ grafana }) => set(grafana, { ports: ['127.0.0.1:9090:3000'] })],
    ['worker: is not started again', ({ worker }) => delete worker?.restart],
  ];
  it.each(breakages)('would be found unsound: %s', (problem, breakIt) => {
    const broken = structuredClone(compose);
    breakIt(broken.services);
    expect(problemsOf(broken, repository)).toContain(problem);
  });

  it('lets the functions and the API accept the keys that it gives out', async () => {
    const environment = compose.services.functions?.environment ?? {};
    const secret = new TextEncoder().encode(withDefaults(environment.FENCEPOST_JWT_SECRET ?? ''));
    for (const [name, role] of [
      ['SUPABASE_ANON_KEY', 'anon'],
      ['SUPABASE_SERVICE_ROLE_KEY', 'service_role'],
    ] as const) {
      const { payload } = await jwtVerify(withDefaults(environment[name] ?? ''), secret);
      expect(payload).toMatchObject({ role, iss: `${environment.SUPABASE_URL}/auth/v1` });
    }
    const settings = readSettings(
      Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, withDefaults(value)])),
    );
    expect(settings.supabaseUrl).toBe('http://gateway:8000');
  });

  it('gives the migrations every file that the command line looks for', () => {
    const mounts = (compose.services.migrations?.volumes ?? []).map((volume) => volume.split(':')[0]);
    const [, paths = ''] = /sql_paths = \[([^\]]*)\]/.exec(read('supabase/config.toml')) ?? [];
    const seeds = [...paths.matchAll(/"\.\/([^"]+)"/g)].map(([, path]) => `./supabase/${path}`);
    expect(seeds.length).toBeGreaterThan(0);
    expect(mounts).toEqual(
      expect.arrayContaining([...seeds, './supabase/config.toml', './supabase/migrations']),
    );
  });

  it('gives the worker an environment that it accepts, with hosts that are services', () => {
    const environment = Object.fromEntries(
      Object.entries(compose.services.worker?.environment ?? {}).map(([name, value]) => [
        name,
        withDefaults(value),
      ]),
    );
    const configuration = readConfiguration(environment);
    expect(compose.services).toHaveProperty(new URL(configuration.databaseUrl).hostname);
    expect(compose.services).toHaveProperty(new URL(configuration.upstashUrl).hostname);
    expect(configuration.upstashToken).toBe(
      withDefaults(compose.services.upstash?.environment?.SRH_TOKEN ?? ''),
    );
  });

  it('gives the API and the functions the same secret, and Prometheus the worker', () => {
    expect(compose.services.api?.environment?.PGRST_JWT_SECRET).toBe(
      compose.services.functions?.environment?.FENCEPOST_JWT_SECRET,
    );
    const prometheus = parse(compose.configs.prometheus?.content ?? '') as {
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    expect(prometheus.scrape_configs[0]?.static_configs[0]?.targets).toEqual(['worker:8787']);
  });
});

describe('worker/Dockerfile', () => {
  it('is built without anybody’s secrets, modules or tests', () => {
    const ignored = read('worker/Dockerfile.dockerignore').trim().split('\n');
    expect(ignored[0]).toBe('*');
    const allowedFrom = ignored.findLastIndex((line) => line.startsWith('!'));
    for (const line of ['**/.env*', '**/*.test.ts']) {
      expect(ignored.indexOf(line), line).toBeGreaterThan(allowedFrom);
    }
    expect(ignored).toEqual(expect.arrayContaining(['**/node_modules', 'worker/dist']));
    expect(read('worker/Dockerfile')).not.toMatch(/\b(ARG|ENV)\b.*(TOKEN|PASSWORD|SECRET|DATABASE_URL)/);
  });

  const stages = read('worker/Dockerfile')
    .split(/^FROM /m)
    .slice(1);

  it('ends in a small image of Node 24 that does not run as root and has a health check', () => {
    const last = stages.at(-1) ?? '';
    expect(last).toMatch(/^node:24-alpine\n/);
    expect(last).toMatch(/^USER node$/m);
    expect(last).toMatch(/^HEALTHCHECK /m);
    expect(last).toMatch(/^CMD \["run"\]$/m);
    expect(last).not.toMatch(/^COPY (?!--from)/m);
  });

  it('copies only what exists, and names stages that exist', () => {
    const names = stages.map((stage) => /^\S+ AS (\S+)/.exec(stage)?.[1]);
    const allowed = [...read('worker/Dockerfile.dockerignore').matchAll(/^!(.+)$/gm)].map(([, path]) => path);
    for (const stage of stages) {
      for (const [, line = ''] of stage.matchAll(/^COPY (.+)$/gm)) {
        const from = /--from=(\S+)/.exec(line)?.[1];
        if (from !== undefined) expect(names).toContain(from);
        else
          for (const source of line.split(' ').slice(0, -1)) {
            expect(existsSync(join(repository, source)), source).toBe(true);
            expect(
              allowed.some((path) => `${source}/`.startsWith(`${path}/`)),
              `${source} is ignored`,
            ).toBe(true);
          }
      }
    }
  });
});

/** Keys, tables and functions of the workbench that the built worker itself names; dist/adoption is what others take over. */
function workbenchIn(dist: string): string[] {
  const sql = readdirSync(join(repository, 'supabase/migrations'))
    .filter((name) => /_(workbench|workflows)/.test(name))
    .map((name) => read(`supabase/migrations/${name}`))
    .join('');
  const names = [...sql.matchAll(/^create (?:table|function) public\.(\w+)/gm)].map(([, name = '']) => name);
  expect(names).toEqual(expect.arrayContaining(['quotas', 'model_prices', 'workflows', 'usage_answer']));
  const prefixes = Object.values(types).map(({ key }) => key.slice(0, key.indexOf('{')));
  expect(prefixes).toEqual(expect.arrayContaining(['quota:', 'session:']));
  const built = readdirSync(dist).filter((name) => name.endsWith('.js'));
  expect(built).toContain('cli.js');
  const code = built.map((name) => readFileSync(join(dist, name), 'utf8')).join('\n');
  const inSql = new RegExp(`\\bpublic\\.(?:${names.join('|')})\\b`, 'g');
  const asWord = new RegExp(`\\b(?:${names.filter((name) => name !== 'sessions').join('|')})\\b`, 'g');
  // `user:password` is of a connection string.
  const inKey = new RegExp(`(?<![\\w/])(?:${prefixes.join('|')})[{*\\w]+`, 'g');
  return [inSql, asWord, inKey].flatMap((pattern) => code.match(pattern) ?? []);
}

describe('the npm package', () => {
  it('is built when it is packed, so that it never holds an older build', () => {
    const { scripts } = JSON.parse(read('worker/package.json')) as { scripts: Record<string, string> };
    expect(scripts.prepack).toBe(scripts.build);
  });

  it('is built anew where its sources are newer, knows nothing of the workbench, and says when its output has nowhere to go', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fencepost-stale-'));
    try {
      const installed = await installPackage(folder);
      expect(workbenchIn(join(installed, 'dist'))).toEqual([]);
      const worker = join(folder, 'source/worker');
      const help = async () =>
        (await execa(process.execPath, [join(worker, 'bin/fencepost.mjs'), '--help'])).stdout;
      expect(await help()).toContain('Keeps an Upstash Redis cache true');
      const full = spawnSync(process.execPath, [join(worker, 'bin/fencepost.mjs'), '--help'], {
        stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'],
        encoding: 'utf8',
      });
      expect([full.status, full.stderr]).toEqual([69, expect.stringMatching(/^fencepost: .*ENOSPC\)\.\n$/)]);
      const cli = join(worker, 'src/cli.ts');
      writeFileSync(cli, readFileSync(cli, 'utf8').replace('Keeps an Upstash', 'Newer: keeps an Upstash'));
      expect(await help()).toContain('Newer: keeps an Upstash Redis cache true');
      expect(readdirSync(worker)).not.toContainEqual(expect.stringMatching(/^dist-/));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('installs into an empty folder and runs with npx fencepost', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fencepost-pack-'));
    try {
      // `npm test` has just built it; building again would pull it from under the tests that run it at this moment.
      if (!existsSync(join(repository, 'worker/dist/cli.js'))) {
        await execa('npm', ['run', '--silent', 'build', '-w', 'worker'], { cwd: repository });
      }
      const packed = await execa(
        'npm',
        ['pack', '--json', '--ignore-scripts', '--pack-destination', folder, '-w', 'worker'],
        { cwd: repository },
      );
      const [pack] = JSON.parse(packed.stdout) as { filename: string; files: { path: string }[] }[];
      expect(pack?.files.map((file) => file.path)).toEqual(
        expect.arrayContaining(['bin/fencepost.mjs', 'dist/cli.js', 'package.json']),
      );
      expect(pack?.files.every((file) => /^(bin\/|dist\/|package\.json$)/.test(file.path))).toBe(true);
      // Nothing is downloaded here: the dependencies are the repository's, linked where npm would put them.
      await execa('npm', ['init', '--yes'], { cwd: folder });
      await execa('tar', ['-xzf', join(folder, pack?.filename ?? ''), '-C', folder]);
      const installed = join(folder, 'node_modules');
      await execa('mkdir', ['-p', join(installed, '.bin')]);
      await execa('mv', [join(folder, 'package'), join(installed, 'fencepost')]);
      await execa('ln', ['-s', join(repository, 'node_modules'), join(installed, 'fencepost/node_modules')]);
      await execa('ln', ['-s', '../fencepost/bin/fencepost.mjs', join(installed, '.bin/fencepost')]);
      const help = await execa('npx', ['--no-install', 'fencepost', '--help'], { cwd: folder });
      for (const command of ['run', 'doctor', 'status', 'explain', 'invalidate', 'retry', 'audit']) {
        expect(help.stdout).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
      }
      const refused = await execa('npx', ['--no-install', 'fencepost', 'run'], {
        cwd: folder,
        reject: false,
        env: { DATABASE_URL: '' },
      });
      expect(refused.exitCode).toBe(78);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
