/** One connection for one piece of work: how the parts themselves talk to Postgres. */
import pg from 'pg';

/**
 * Connects, runs the work, and closes the connection whatever happens.
 * @throws what connecting or the work throws; a server that dies meanwhile rejects the query, never the process
 */
export async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  // The query that was under way has failed already; without a listener the event would end the process too.
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Runs SQL, several statements if need be, in one connection. */
export async function execute(url: string, sql: string): Promise<void> {
  await withClient(url, (client) => client.query(sql));
}
