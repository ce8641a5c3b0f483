/**
 * The log. On a terminal one short readable line an event; otherwise one JSON object a line (pino). Fields that could
 * hold a secret are removed by name, whoever logs them; Redis's error texts never come here at all (apply/upstash.ts).
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

/**
 * @param destination where lines go instead of standard output; for tests
 */
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
  // Loaded only where it is used: a service that logs JSON does without its 10 MB.
  const pinoPretty = createRequire(import.meta.url)('pino-pretty') as typeof import('pino-pretty');
  const pretty = pinoPretty({
    // A terminal's reader wants the sentence; the fields behind it are in the JSON form. Colours only on a terminal.
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
