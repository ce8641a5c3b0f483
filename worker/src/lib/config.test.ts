import { describe, expect, it } from 'vitest';
import { placeOf, readConfiguration, readWarmingConfiguration } from './config.ts';
import { WorkerError } from './errors.ts';

const good = {
  DATABASE_URL: 'postgresql://u:hunter2@db.example.com:5432/postgres',
  UPSTASH_REDIS_REST_URL: 'https://name.upstash.io/',
  UPSTASH_REDIS_REST_TOKEN: 'AXt0',
};

function refusal(changes: Record<string, string | undefined>): string {
  try {
    readConfiguration({ ...good, ...changes });
  } catch (error) {
    if (error instanceof WorkerError) return error.message;
    throw error;
  }
  throw new Error('It was accepted.');
}

describe('readConfiguration', () => {
  it('needs three variables and has a default for everything else', () => {
    expect(readConfiguration(good)).toMatchObject({
      upstashUrl: 'https://name.upstash.io',
      cachePrefix: '',
      queueRedisUrl: undefined,
      port: 8787,
      heartbeatIntervalMs: 30_000,
      backlogRows: 1_000_000,
      backlogAgeMs: 3_600_000,
    });
  });

  it('takes an empty variable as one that is not set', () => {
    expect(readConfiguration({ ...good, PORT: '', QUEUE_REDIS_URL: ' ' })).toMatchObject({
      port: 8787,
      queueRedisUrl: undefined,
    });
    expect(refusal({ DATABASE_URL: '' })).toContain('DATABASE_URL is missing');
  });

  it.each(['https://name.upstash.io', 'https://name.upstash.io//', ' name.upstash.io/\n'])(
    'reads the address %j',
    (url) => {
      expect(readConfiguration({ ...good, UPSTASH_REDIS_REST_URL: url }).upstashUrl).toBe(
        'https://name.upstash.io',
      );
    },
  );

  it('reports every problem at once', () => {
    const text = refusal({ DATABASE_URL: undefined, PORT: '-1', LOG_LEVEL: 'loud', FENCEPOST_LOG: 'xml' });
    expect(text).toContain('4 problems');
    expect(text.split('\n')).toHaveLength(6);
  });

  it.each([
    ['DATABASE_URL', 'mysql://root:hunter2@db/app', 'is not a Postgres connection string'],
    ['DATABASE_URL', 'hunter2', 'is not a Postgres connection string'],
    ['DATABASE_URL', 'postgresql:///postgres', 'is not a Postgres connection string'],
    [
      'DATABASE_URL',
      'postgresql://u:hunter2@pooler.supabase.com:6543/postgres',
      'port 6543, the transaction pooler',
    ],
    ['UPSTASH_REDIS_REST_URL', 'rediss://default:hunter2@x.upstash.io:6379', 'use the REST address'],
    ['UPSTASH_REDIS_REST_URL', 'localhost:8079', 'is not an address'],
    ['UPSTASH_REDIS_REST_URL', 'https://default:hunter2@x.upstash.io', 'holds more than an address'],
    ['UPSTASH_REDIS_REST_TOKEN', 'hunter2 hunter2', 'holds characters that no token has'],
    ['QUEUE_REDIS_URL', 'http://redis', 'is not a Redis address'],
    ['DATABASE_URL', `"${good.DATABASE_URL}"`, 'stands in quotes'],
    ['UPSTASH_REDIS_REST_URL', '"https://x.upstash.io"', 'stands in quotes'],
    ['UPSTASH_REDIS_REST_TOKEN', "'hunter2'", 'stands in quotes'],
    ['UPSTASH_REDIS_REST_TOKEN', "hunter2'", 'has a quote at one end'],
    ['UPSTASH_REDIS_REST_URL', 'https://x.upstash.io/redis', 'has a port or a path'],
    ['CACHE_PREFIX', '"app:"', 'stands in quotes'],
    ['PORT', '"8787"', 'stands in quotes'],
    ['HOST', '`::`', 'stands in quotes'],
    ['PORT', '65536', 'must be a whole number from 0 to 65535'],
    ['PORT', '80.5', 'must be a whole number'],
    ['FENCEPOST_HEARTBEAT_SECONDS', '500', 'must be a number from 1 to 45'],
    ['FENCEPOST_BACKLOG_ROWS', 'many', 'must be a whole number from 1000'],
  ])('refuses %s=%s without repeating a secret', (name, value, expected) => {
    const text = refusal({ [name]: value });
    expect(text).toContain(`  ${name} `);
    expect(text).toContain(expected);
    expect(text).not.toContain('hunter2');
  });
});

describe('readWarmingConfiguration', () => {
  const { DATABASE_URL } = good;

  it('needs the database for rows alone, and Upstash for nothing', () => {
    expect(readWarmingConfiguration({ DATABASE_URL }, true)).toEqual({
      databaseUrl: DATABASE_URL,
      token: undefined,
    });
    expect(() => readWarmingConfiguration({}, true)).toThrow('DATABASE_URL is missing');
    expect(readWarmingConfiguration({ FENCEPOST_WARM_TOKEN: ' sb_secret_x ' }, false)).toEqual({
      databaseUrl: undefined,
      token: 'sb_secret_x',
    });
  });

  it('refuses a token that no header can hold, without repeating it', () => {
    const read = () => readWarmingConfiguration({ DATABASE_URL, FENCEPOST_WARM_TOKEN: 'hunter2\nx' }, true);
    expect(read).toThrow('FENCEPOST_WARM_TOKEN holds characters that no token has');
    expect(read).not.toThrow('hunter2');
  });
});

describe('placeOf', () => {
  it('leaves user and password out', () => {
    expect(placeOf(good.DATABASE_URL)).toBe('db.example.com:5432/postgres');
    expect(placeOf('nonsense')).toBe('the configured address');
  });
});
