/**
 * The log: short lines on a terminal, otherwise one JSON object a line (pino). It redacts every field that has the name of a
 * secret. Error texts of Redis never reach it (cache/redis/failure.ts).
 */
import { createRequire } from 'node:module';
import pino from 'pino';
import type { Configuration } from './config.ts';
import { hasColours, printable } from './text.ts';

export type Log = pino.Logger;

const SECRETS = [
  'databaseUrl',
  'upstashToken',
  'token',
  'password',
  'authorization',
  'queueRedisUrl',
  'connectionString',
];

/** @param destination replaces standard output in tests */
export function createLog(
  configuration: Pick<Configuration, 'logLevel' | 'logFormat'>,
  destination?: pino.DestinationStream,
): Log {
  const options: pino.LoggerOptions = {
    level: configuration.logLevel,
    base: null,
    redact: { paths: SECRETS.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  };
  if (configuration.logFormat === 'json') {
    return destination === undefined ? pino(options) : pino(options, destination);
  }
  // Loaded on demand: a service that logs JSON saves its 10 MB.
  const pinoPretty = createRequire(import.meta.url)('pino-pretty') as typeof import('pino-pretty');
  const pretty = pinoPretty({
    // The sentence alone; the JSON format has the fields.
    colorize: destination === undefined && hasColours(),
    translateTime: 'SYS:HH:MM:ss.l',
    hideObject: true,
    ignore: 'pid,hostname',
    messageFormat: ({ msg }) => printable(String(msg)),
    sync: true,
    ...(destination === undefined ? {} : { destination: destination as unknown as NodeJS.WritableStream }),
  });
  return pino({ ...options, formatters: {} }, pretty);
}
