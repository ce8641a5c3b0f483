/** PostgREST behind its front: Supabase's paths, keys and identities. */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type PostgresPart, startPostgres } from '../../local/parts/postgres.ts';
import { type PostgrestPart, startPostgrest } from '../../local/parts/postgrest.ts';
import { SEEDED_USER, signToken, stackTokens } from '../../local/tokens.ts';

const secret = 'a-secret-of-at-least-thirty-two-characters';
let postgres: PostgresPart;
let postgrest: PostgrestPart;
let tokens: Awaited<ReturnType<typeof stackTokens>>;

beforeAll(async () => {
  postgres = await startPostgres();
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  await client.query(`
    create table public.notes (id int primary key, owner uuid, text text);
    alter table public.notes enable row level security;
    grant select on public.notes to authenticated, service_role;
    create policy own on public.notes for select to authenticated using (owner = auth.uid());
    insert into public.notes values (1, '${SEEDED_USER}', 'mine'), (2, gen_random_uuid(), 'other');
  `);
  await client.end();
  postgrest = await startPostgrest({ databaseUrl: postgres.url, jwtSecret: secret });
  tokens = await stackTokens(secret, postgrest.apiUrl);
});

afterAll(async () => {
  await postgrest?.stop();
  await postgres?.stop();
});

/** The ids that a caller sees, or the code of the refusal; the key alone is the identity when there is no token. */
async function notes(apikey: string, token = apikey): Promise<unknown> {
  const response = await fetch(`${postgrest.apiUrl}/rest/v1/notes?select=id&order=id`, {
    headers: { apikey, ...(token === apikey ? {} : { authorization: `Bearer ${token}` }) },
  });
  const body = (await response.json()) as { id: number }[] | { code: string };
  return Array.isArray(body) ? body.map(({ id }) => id) : body.code;
}

test('row level security sees who asks', async () => {
  expect(await notes(tokens.anonToken, tokens.userToken)).toEqual([1]);
  expect(await notes(tokens.serviceToken)).toEqual([1, 2]);
  expect(await notes(tokens.anonToken)).toBe('42501');
});

test('a token that ended, or was signed by somebody else, is refused', async () => {
  const expired = await signToken({
    secret,
    apiUrl: postgrest.apiUrl,
    role: 'authenticated',
    expiresIn: -60,
  });
  expect(await notes(tokens.anonToken, expired)).toBe('PGRST301');
  const foreign = await signToken({
    secret: secret.toUpperCase(),
    apiUrl: postgrest.apiUrl,
    role: 'service_role',
  });
  expect(await notes(tokens.anonToken, foreign)).toBe('PGRST301');
});

test('two of them on one server do not lock each other out, and leave no role behind', async () => {
  const roles = async () => {
    const client = new pg.Client({ connectionString: postgres.url });
    await client.connect();
    const { rows } = await client.query(`select rolname from pg_roles where rolname like 'authenticator%'`);
    await client.end();
    return rows.length;
  };
  const before = await roles();
  const other = await startPostgrest({ databaseUrl: postgres.url, jwtSecret: secret });
  expect(await notes(tokens.anonToken, tokens.userToken)).toEqual([1]);
  await other.stop();
  expect(await notes(tokens.anonToken, tokens.userToken)).toEqual([1]);
  expect(await roles()).toBe(before);
});

test('without an API key nothing is answered', async () => {
  const response = await fetch(`${postgrest.apiUrl}/rest/v1/notes`, {
    headers: { authorization: `Bearer ${tokens.serviceToken}` },
  });
  expect([response.status, await response.json()]).toMatchObject([
    401,
    { message: 'No API key found in request' },
  ]);
});

test('the key set is there, and empty', async () => {
  const response = await fetch(`${postgrest.apiUrl}/auth/v1/.well-known/jwks.json`);
  expect(await response.json()).toEqual({ keys: [] });
});

test('another path is a 404 that says where PostgREST is', async () => {
  const response = await fetch(`${postgrest.apiUrl}/notes`);
  expect([response.status, await response.json()]).toMatchObject([
    404,
    { message: expect.stringContaining('/rest/v1') },
  ]);
});
