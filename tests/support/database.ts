/**
 * A migrated and seeded database for a test file, of its own and real:
 *
 *     const database = await cloneDatabase();     // beforeAll
 *     await database.drop();                      // afterAll
 */
import { inject } from 'vitest';
import { type ClonedDatabase, cloneFrom } from './template.ts';

export type { ClonedDatabase } from './template.ts';

/**
 * Clones the template. The first call of a run also starts Postgres and applies the migrations (some three seconds).
 * Roles, settings, the numbers of transactions and the write-ahead log are the server's, shared with the other files: no two files
 * make a role of one name. A test that needs those for itself, or that kills the server, starts its own with startPostgres.
 */
export async function cloneDatabase(): Promise<ClonedDatabase> {
  const response = await fetch(inject('fencepostDatabases'));
  const answer = await response.text();
  if (!response.ok) throw new Error(`The test database could not be prepared.\n${answer}`);
  return await cloneFrom(answer);
}
