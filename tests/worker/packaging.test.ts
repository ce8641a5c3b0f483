import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readConfiguration } from '../../worker/src/configuration.ts';

/**
 * There is no container engine where these tests run, so nothing is built here: the files are parsed, and everything in
 * them that refers to something else is followed.
 */
const repository = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(repository, path), 'utf8');

interface Service {
  readonly image?: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly environment?: Record<string, string>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly configs?: readonly { readonly source: string; readonly target: string }[];
  readonly depends_on?: Record<string, { readonly condition: string }>;
  readonly profiles?: readonly string[];
  readonly healthcheck?: unknown;
  readonly command?: readonly string[];
}
interface Compose {
  readonly services: Record<string, Service>;
  readonly configs: Record<string, { readonly content: string }>;
  readonly volumes: Record<string, unknown>;
}

const compose = parse(read('docker-compose.yml'), { merge: true }) as Compose;
const services = Object.entries(compose.services);

/** What Compose puts for `${NAME:-default}` when nothing is set. */
function withDefaults(text: string): string {
  return text.replace(/\$\{[A-Z_]+(?::-([^}]*))?\}/g, (_, fallback: string | undefined) => fallback ?? '');
}

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

  it.each(services)('%s refers only to what exists', (_name, service) => {
    expect(service.image !== undefined || service.build !== undefined).toBe(true);
    if (service.image !== undefined) expect(service.image).toMatch(/^[a-z0-9./-]+:[\w.-]*\d[\w.-]*$/);
    if (service.build !== undefined) {
      expect(existsSync(join(repository, service.build.context, service.build.dockerfile))).toBe(true);
    }
    for (const [name, { condition }] of Object.entries(service.depends_on ?? {})) {
      const other = compose.services[name];
      expect(other, `${name} is a service`).toBeDefined();
      if (condition === 'service_healthy')
        expect(other?.healthcheck, `${name} has a health check`).toBeDefined();
      if (condition === 'service_completed_successfully') expect(other?.command).toBeDefined();
    }
    for (const { source } of service.configs ?? []) expect(compose.configs).toHaveProperty(source);
    for (const volume of service.volumes ?? []) {
      const [from = ''] = volume.split(':');
      if (from.startsWith('.')) expect(existsSync(join(repository, from)), from).toBe(true);
      else expect(compose.volumes).toHaveProperty(from);
    }
    for (const port of service.ports ?? []) expect(withDefaults(port)).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    for (const value of Object.values(service.environment ?? {})) expect(typeof value).toBe('string');
  });

  it('publishes no port twice', () => {
    const ports = services.flatMap(([, service]) =>
      (service.ports ?? []).map((port) => withDefaults(port).split(':')[1]),
    );
    expect(new Set(ports).size).toBe(ports.length);
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
    for (const stage of stages) {
      for (const [, line = ''] of stage.matchAll(/^COPY (.+)$/gm)) {
        const from = /--from=(\S+)/.exec(line)?.[1];
        if (from !== undefined) expect(names).toContain(from);
        else
          for (const source of line.split(' ').slice(0, -1))
            expect(existsSync(join(repository, source)), source).toBe(true);
      }
    }
  });
});

describe('the npm package', () => {
  it('installs into an empty folder and runs with npx fencepost', { timeout: 120_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fencepost-pack-'));
    try {
      // `npm test` has just built it; building again would pull it from under the tests that run it at this moment.
      if (!existsSync(join(repository, 'worker/dist/cli.js'))) {
        await execa('npm', ['run', '--silent', 'build', '-w', 'worker'], { cwd: repository });
      }
      const packed = await execa('npm', ['pack', '--json', '--pack-destination', folder, '-w', 'worker'], {
        cwd: repository,
      });
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
