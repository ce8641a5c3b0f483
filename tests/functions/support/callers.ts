/**
 * Everyone who may call a function, as seeded (supabase/seed.sql), with a token each.
 */
import { signToken } from '../../../local/tokens.ts';

export const USERS = {
  member: '11111111-1111-4111-8111-111111111111',
  owner: '22222222-2222-4222-8222-222222222222',
  removed: '33333333-3333-4333-8333-333333333333',
  stranger: '44444444-4444-4444-8444-444444444444',
} as const;

export type CallerName = keyof typeof USERS | 'anonymous' | 'nobody' | 'service';

/** `anonymous` has a public key, `nobody` nothing at all; `removed` was a member of org-acme once. */
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

/** One token a caller, as the project's Auth would have issued it. */
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

/** What Postgres is told about a caller before a query, as PostgREST tells it. */
export function postgresIdentity(caller: CallerName): { role: string; claims: object } {
  if (caller === 'service') return { role: 'service_role', claims: { role: 'service_role' } };
  if (caller === 'anonymous' || caller === 'nobody') return { role: 'anon', claims: { role: 'anon' } };
  return { role: 'authenticated', claims: { role: 'authenticated', sub: USERS[caller] } };
}
