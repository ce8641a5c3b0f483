/** What no server of the tests says or does by itself; what it does is in tests/worker/messages-database.test.ts. */
import { expect, it } from 'vitest';
import { ExitCode } from '../lib/errors.ts';
import { explainDatabaseError } from './errors.ts';

const { unavailable, configuration } = ExitCode;

it.each([
  // Supabase's session pooler.
  [
    'XX000',
    'MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size',
    'DATABASE_TOO_MANY_CONNECTIONS',
    unavailable,
    'takes no more clients',
  ],
  [
    'XX000',
    '(EMAXCONN) max client connections reached, limit: 200',
    'DATABASE_TOO_MANY_CONNECTIONS',
    unavailable,
    'takes no more clients',
  ],
  ['XX000', 'Tenant or user not found', 'DATABASE_REFUSED', unavailable, 'is paused'],
  ['XX000', '(ENOTFOUND) tenant/user postgres.abc not found', 'DATABASE_REFUSED', unavailable, 'is paused'],
  [
    'XX000',
    '(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked',
    'DATABASE_REFUSED',
    unavailable,
    'wrong password',
  ],
  ['XX000', '{:shutdown, :db_termination}', 'DATABASE_UNREACHABLE', unavailable, 'lost the database'],
  ['XX000', 'cache lookup failed', 'DATABASE_FAILED', unavailable, 'cache lookup failed (XX000)'],
  // PgBouncer.
  [
    '08P01',
    'no more connections allowed (max_client_conn)',
    'DATABASE_TOO_MANY_CONNECTIONS',
    unavailable,
    'takes no more clients',
  ],
  [
    '08P01',
    'server login has been failing',
    'DATABASE_UNREACHABLE',
    unavailable,
    'server login has been failing',
  ],
  // Postgres.
  ['57P03', 'the database system is starting up', 'DATABASE_UNREACHABLE', unavailable, 'starting'],
  [
    '57P02',
    'terminating connection because of crash',
    'DATABASE_UNREACHABLE',
    unavailable,
    'ended a session',
  ],
  [
    '22023',
    'invalid value for parameter "statement_timeout"',
    'DATABASE_FAILED',
    unavailable,
    'statement_timeout" (22023)',
  ],
  // The network.
  ['ENETUNREACH', 'connect ENETUNREACH', 'DATABASE_UNREACHABLE', unavailable, 'IPv6 only'],
  ['ETIMEDOUT', 'connect ETIMEDOUT', 'DATABASE_UNREACHABLE', unavailable, 'does not answer in time'],
  ['EPIPE', 'write EPIPE', 'DATABASE_UNREACHABLE', unavailable, 'broke'],
  [
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'self-signed certificate',
    'DATABASE_REFUSED',
    configuration,
    'TLS with the database',
  ],
  ['', 'something new', 'DATABASE_FAILED', unavailable, 'something new'],
])('%s %s', (code, text, expected, exitCode, words) => {
  const error = Object.assign(new Error(text), code === '' ? {} : { code });
  const said = explainDatabaseError(error, 'postgresql://user:secret@host:5432/name');
  expect(said).toMatchObject({ code: expected, exitCode, message: expect.stringContaining(words) });
  expect(said.message).not.toContain('secret');
});
