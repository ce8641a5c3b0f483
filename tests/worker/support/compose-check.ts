/**
 * What can be known of docker-compose.yml without an engine: everything in it that refers to something else is followed, and
 * every service is held against what an operator expects of it. Gives sentences, none when all is well.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

export interface Service {
  image?: string;
  build?: { context: string; dockerfile: string };
  environment?: Record<string, string>;
  ports?: string[];
  volumes?: string[];
  configs?: { source: string; target: string }[];
  depends_on?: Record<string, { condition: string }>;
  profiles?: string[];
  healthcheck?: unknown;
  command?: string[];
  restart?: string;
  read_only?: boolean;
  cap_drop?: string[];
}

export interface Compose {
  services: Record<string, Service>;
  configs: Record<string, { content: string }>;
  volumes: Record<string, unknown>;
}

/** What Compose puts for `${NAME:-default}` when nothing is set. */
export function withDefaults(text: string): string {
  return text.replace(/\$\{[A-Z_]+(?::-([^}]*))?\}/g, (_, fallback: string | undefined) => fallback ?? '');
}

/** @param repository the folder that paths are relative to */
export function problemsOf(compose: Compose, repository: string): string[] {
  const problems = Object.entries(compose.services).flatMap(([name, service]) =>
    [
      ...problemsOfImage(service, repository),
      ...problemsOfDependencies(service, compose),
      ...problemsOfMounts(service, compose, repository),
      ...problemsOfPorts(service),
      ...Object.entries(service.environment ?? {})
        .filter(([, value]) => typeof value !== 'string')
        .map(([variable]) => `${variable} is not text`),
    ].map((problem) => `${name}: ${problem}`),
  );
  const ports = Object.values(compose.services).flatMap((service) =>
    (service.ports ?? []).map((port) => withDefaults(port).split(':')[1] ?? ''),
  );
  const twice = ports.filter((port, index) => ports.indexOf(port) !== index);
  return [...problems, ...twice.map((port) => `port ${port} is published twice`), ...endless(compose)];
}

function problemsOfImage({ image, build }: Service, repository: string): string[] {
  if (build !== undefined) {
    return existsSync(join(repository, build.context, build.dockerfile))
      ? []
      : [`${build.dockerfile} does not exist`];
  }
  return /^[a-z0-9./-]+:[\w.-]*\d[\w.-]*$/.test(image ?? '') ? [] : [`${image} names no version`];
}

function problemsOfDependencies(service: Service, compose: Compose): string[] {
  return Object.entries(service.depends_on ?? {}).flatMap(([name, { condition }]) => {
    const other = compose.services[name];
    if (other === undefined) return [`waits for ${name}, which is no service`];
    if (condition === 'service_healthy' && other.healthcheck === undefined)
      return [`waits for the health of ${name}, which has no health check`];
    if (condition === 'service_completed_successfully' && other.restart !== undefined)
      return [`waits for the end of ${name}, which is started again and again`];
    return [];
  });
}

function problemsOfMounts(service: Service, compose: Compose, repository: string): string[] {
  const configs = (service.configs ?? [])
    .filter(({ source }) => compose.configs[source] === undefined)
    .map(({ source }) => `${source} is no config`);
  const volumes = (service.volumes ?? []).flatMap((volume) => {
    const [from = '', , mode] = volume.split(':');
    if (!from.startsWith('.')) return from in compose.volumes ? [] : [`${from} is no volume`];
    if (!existsSync(join(repository, from))) return [`${from} does not exist`];
    return mode === 'ro' ? [] : [`${from} could be written from the container`];
  });
  return [...configs, ...volumes];
}

function problemsOfPorts(service: Service): string[] {
  return (service.ports ?? [])
    .filter((port) => !/^127\.0\.0\.1:\d+:\d+$/.test(withDefaults(port)))
    .map((port) => `${port} is open to more than this machine`);
}

/** What runs for good comes back after a crash and a reboot; what others wait to end does not. */
function endless(compose: Compose): string[] {
  const ending = new Set(
    Object.values(compose.services).flatMap((service) =>
      Object.entries(service.depends_on ?? {})
        .filter(([, { condition }]) => condition === 'service_completed_successfully')
        .map(([name]) => name),
    ),
  );
  return Object.entries(compose.services)
    .filter(([name, service]) => !ending.has(name) && service.restart !== 'unless-stopped')
    .map(([name]) => `${name}: is not started again`);
}
