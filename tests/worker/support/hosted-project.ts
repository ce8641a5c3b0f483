/** A migrated database whose owner has the rights of hosted Supabase's `postgres`, with two roles that a worker may log in as. */
import pg from 'pg';
import { applyMigrations } from '../../../local/parts/migrations.ts';
import { startPostgres, withDatabase } from '../../../local/parts/postgres.ts';

export interface HostedProject {
  /** Of the superuser, who owns nothing of the project. */
  readonly server: string;
  readonly database: string;
  /** The project's address for `hosted`, its owner, for `first_worker`, `second_worker`, or another role with the password `p`. */
  as(role: string): string;
  stop(): Promise<void>;
}

export async function startHostedProject(): Promise<HostedProject> {
  const server = await startPostgres();
  const database = withDatabase(server.url, 'project');
  const as = (role: string): string => {
    const url = new URL(database);
    url.username = role;
    url.password = 'p';
    return url.href;
  };
  await using(server.url, async (superuser) => {
    await superuser.query(`
      create role hosted login createrole createdb replication bypassrls password 'p';
      grant anon, authenticated, service_role to hosted with admin option`);
    await superuser.query('create database project owner hosted');
  });
  await using(database, (superuser) =>
    superuser.query('grant all on schema public, extensions to hosted; grant usage on schema auth to hosted'),
  );
  await applyMigrations(as('hosted'));
  await using(as('hosted'), (owner) =>
    owner.query(`
      create role first_worker login password 'p' in role fencepost_worker;
      create role second_worker login password 'p' in role fencepost_worker`),
  );
  return { server: server.url, database, as, stop: () => server.stop() };
}

/** Does something in a session of its own. */
export async function using<T>(url: string, action: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await action(client);
  } finally {
    await client.end();
  }
}
