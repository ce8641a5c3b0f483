/**
 * Everybody who calls a function in these tests, as seeded (supabase/seed.sql): a token for each, and what Postgres shows each.
 */
import type pg from 'pg';
import { signToken } from '../../../local/tokens.ts';

export const JWT_SECRET = 'the shared secret of the tests, long enough';

export const USERS = {
  member: '11111111-1111-4111-8111-111111111111',
  owner: '22222222-2222-4222-8222-222222222222',
  removed: '33333333-3333-4333-8333-333333333333',
  stranger: '44444444-4444-4444-8444-444444444444',
} as const;

export type CallerName = keyof typeof USERS | 'anonymous' | 'nobody' | 'service';

/** `anonymous` has a public key and `nobody` has nothing. `removed` was a member of org-acme before. */
export const CALLERS: readonly CallerName[] = [
  'owner',
  'member',
  'removed',
  'stranger',
  'anonymous',
  'nobody',
  'service',
];

export type Tokens = Readonly<Record<CallerName, string | undefined>>;

/** A token for each caller, as the project's Auth would issue it. */
export async function tokensFor(secret: string, apiUrl: string): Promise<Tokens> {
  const user = (subject: string) => signToken({ secret, apiUrl, role: 'authenticated', subject });
  const [owner, member, removed, stranger, anonymous, service] = await Promise.all([
    user(USERS.owner),
    user(USERS.member),
    user(USERS.removed),
    user(USERS.stranger),
    signToken({ secret, apiUrl, role: 'anon' }),
    signToken({ secret, apiUrl, role: 'service_role' }),
  ]);
  return { owner, member, removed, stranger, anonymous, service, nobody: undefined };
}

/** The role and claims that PostgREST sets for a caller before a query. */
function postgresIdentity(caller: CallerName): { role: string; claims: object } {
  if (caller === 'service') return { role: 'service_role', claims: { role: 'service_role' } };
  if (caller === 'anonymous' || caller === 'nobody') return { role: 'anon', claims: { role: 'anon' } };
  return { role: 'authenticated', claims: { role: 'authenticated', sub: USERS[caller] } };
}

/** Whether a query shows a caller any row. It asks Postgres directly, with the role and claims that PostgREST would set. */
export async function isVisibleTo(pool: pg.Pool, caller: CallerName, query: string): Promise<boolean> {
  const { role, claims } = postgresIdentity(caller);
  const client = await pool.connect();
  try {
    await client.query('begin');
    await client.query("select set_config('request.jwt.claims', $1, true)", [JSON.stringify(claims)]);
    await client.query(`set local role ${role}`);
    return ((await client.query(query)).rowCount ?? 0) > 0;
  } catch (error) {
    // Without a privilege on the table the caller sees no row.
    if ((error as { code?: string }).code === '42501') return false;
    throw error;
  } finally {
    await client.query('rollback');
    client.release();
  }
}
