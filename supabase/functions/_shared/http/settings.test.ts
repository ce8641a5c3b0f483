import { describe, expect, it } from 'vitest';
import { isAllowed } from './origins.ts';
import { readSettings } from './settings.ts';

const good = { SUPABASE_URL: 'https://ref.supabase.co', SUPABASE_ANON_KEY: 'anon' };
const read = (changes: Record<string, string>) => readSettings({ ...good, ...changes });

describe('readSettings', () => {
  it('trims every value', () => {
    const padded = (text: string) => ` ${text}\r\n`;
    const set = {
      ...good,
      SUPABASE_PUBLISHABLE_KEYS: '{"default":" sb_publishable_x\\n"}',
      SUPABASE_SECRET_KEYS: '{"default":"sb_secret_x"}',
      SUPABASE_SERVICE_ROLE_KEY: 'service',
      SUPABASE_JWKS: '{"keys":[]}',
      FENCEPOST_ALLOWED_ORIGINS: 'https://app.example',
      FENCEPOST_JWT_ISSUER: 'https://auth.example/auth/v1',
      FENCEPOST_JWT_AUDIENCE: 'people',
      FENCEPOST_CACHE_TIMEOUT_MS: '300',
      FENCEPOST_DATABASE_TIMEOUT_MS: '400',
    };
    const all = Object.fromEntries(Object.entries(set).map(([name, value]) => [name, padded(value)]));
    expect(readSettings(all)).toEqual(readSettings(set));
    expect(readSettings(all).publicKeys).toEqual(['sb_publishable_x', 'anon']);
  });

  it.each(['https://ref.supabase.co/', 'https://ref.supabase.co//', ' ref.supabase.co '])(
    'reads SUPABASE_URL=%j',
    (url) => {
      expect(read({ SUPABASE_URL: url }).supabaseUrl).toBe('https://ref.supabase.co');
    },
  );

  it.each([
    [
      'SUPABASE_URL',
      'localhost:54321',
      /^SUPABASE_URL is not an address: expected https:\/\/<ref>\.supabase\.co/,
    ],
    ['SUPABASE_URL', '"https://ref.supabase.co"', /^SUPABASE_URL stands in quotes/],
    ['SUPABASE_URL', 'https://ref.supabase.co"', /^SUPABASE_URL has a quote at one end/],
    ['SUPABASE_ANON_KEY', "'anon'", /^SUPABASE_ANON_KEY stands in quotes/],
    ['FENCEPOST_JWT_SECRET', '"hunter2"', /^FENCEPOST_JWT_SECRET stands in quotes/],
    ['FENCEPOST_JWT_SECRET', 'hunter2\n', /^FENCEPOST_JWT_SECRET begins or ends with a line break/],
    ['FENCEPOST_JWT_SECRET', ' hunter2', /^FENCEPOST_JWT_SECRET begins or ends with a line break or a space/],
    ['SUPABASE_SECRET_KEYS', 'sb_secret_hunter2', /^SUPABASE_SECRET_KEYS must be a JSON object/],
    ['FENCEPOST_CACHE_TIMEOUT_MS', '0', /^FENCEPOST_CACHE_TIMEOUT_MS must be a whole number/],
    ['FENCEPOST_CACHE_TIMEOUT_MS', '99999999999', /^FENCEPOST_CACHE_TIMEOUT_MS must be a whole number/],
  ])('refuses %s=%j by its name, without repeating a secret', (name, value, problem) => {
    const refused = () => read({ [name]: value });
    expect(refused).toThrow(
      expect.objectContaining({ code: 'MISCONFIGURED', message: expect.stringMatching(problem) }),
    );
    expect(refused).not.toThrow('hunter2');
  });

  it.each([
    'https://app.example/path',
    'app.example',
    'localhost:3000',
    'https://App.example',
    'https://app.example:443',
    'https://user@app.example',
    'https://*',
    '*.example.com',
    'https://app-*.example.com',
    'https://*.*.example.com',
    'https://bücher.example',
    '"https://app.example"',
  ])('refuses an origin that no browser sends: %s', (origin) => {
    const refused = () =>
      read({ FENCEPOST_ALLOWED_ORIGINS: `https://other.example, ${origin}, https://a.example` });
    expect(refused).toThrow(/^FENCEPOST_ALLOWED_ORIGINS can never match in entry 2: /);
  });

  it('takes what browsers and apps send', () => {
    const origins = [
      'https://app.example',
      'http://localhost:3000',
      'capacitor://localhost',
      'null',
      '*',
      'https://*.example.com',
    ];
    expect(read({ FENCEPOST_ALLOWED_ORIGINS: origins.join(',') }).allowedOrigins).toEqual(origins);
    expect(read({ FENCEPOST_ALLOWED_ORIGINS: 'https://app.example//' }).allowedOrigins).toEqual([
      'https://app.example',
    ]);
    expect(read({}).allowedOrigins).toEqual(['*']);
  });
});

describe('an entry for all hosts below one', () => {
  const allowed = ['https://app.example', 'https://*.example.com:8443', 'https://*.example.com'];
  it.each([
    ['https://app.example', true],
    ['https://a.example.com', true],
    ['https://a.b.example.com', true],
    ['https://a.example.com:8443', true],
    ['https://example.com', false],
    ['https://.example.com', false],
    ['http://a.example.com', false],
    ['https://a.example.com:9', false],
    ['https://aexample.com', false],
    ['https://a.example.com.evil.example', false],
    ['https://evil.example', false],
    ['null', false],
  ])('%s: %s', (origin, expected) => {
    expect(isAllowed(origin, allowed)).toBe(expected);
  });
});
