/** Sessions of a test's database, and what their statements leave in the outbox. */
import pg from 'pg';

export async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}

/** Two sessions, and the warnings that either of them gets. */
export async function twoSessions(
  url: string,
): Promise<{ client: pg.Client; other: pg.Client; warnings: string[] }> {
  const [client, other] = await Promise.all([connect(url), connect(url)]);
  const warnings: string[] = [];
  for (const session of [client, other])
    session.on('notice', ({ severity, message = '' }) => {
      if (severity === 'WARNING') warnings.push(message);
    });
  return { client, other, warnings };
}

/** What stands in the outbox, each target once, in order. */
export async function targetsIn(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ target: string }>(
    'select distinct target from cache_invalidation.outbox order by target',
  );
  return rows.map(({ target }) => target);
}

/** What one statement, or several, put there. */
export async function targetsOf(client: pg.Client, statement: string): Promise<string[]> {
  await client.query('delete from cache_invalidation.changes');
  await client.query(statement);
  return await targetsIn(client);
}
