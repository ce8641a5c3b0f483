/**
 * A table that belongs to an extension, changed by a script of the extension: while one runs, Postgres refuses to replace a
 * function that is not the extension's own. The script succeeds, with a warning, and the watch follows when its statement ends.
 *
 * On Postgres 18, the first that finds extensions in a folder which a test can write.
 */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { cloneFrom, startTemplate } from '../support/template.ts';
import { ensureVersions, versionsUnderTest } from './postgres-versions.ts';

const table = 'create table public.member (id integer, org_id text);';
const update = 'alter table public.member rename column org_id to organisation;';

describe.skipIf(!versionsUnderTest().includes(18))('Postgres 18', () => {
  test('a script that renames a watched column succeeds, with a warning', async () => {
    await ensureVersions();
    const folder = await mkdtemp(join(tmpdir(), 'fencepost-extension-'));
    const server = await startTemplate({ version: 18 });
    const database = await cloneFrom(server.url);
    const client = new pg.Client({ connectionString: database.url });
    try {
      await mkdir(join(folder, 'extension'));
      // The server may run as another user.
      await chmod(folder, 0o755);
      await writeFile(join(folder, 'extension/members.control'), `default_version = '1.0'\n`);
      await writeFile(join(folder, 'extension/members--1.0.sql'), table);
      await writeFile(join(folder, 'extension/members--1.0--1.1.sql'), update);
      await client.connect();
      await client.query(`set extension_control_path = '${folder}:$system'`);
      await client.query('create extension members');
      await client.query(`select cache_invalidation.watch('public.member', 'member:{org_id}')`);
      await client.query('delete from cache_invalidation.changes');
      const warnings: { message: string | undefined; hint: string | undefined }[] = [];
      client.on('notice', ({ severity, message, hint }) => {
        if (severity === 'WARNING') warnings.push({ message, hint });
      });

      await client.query(`alter extension members update to '1.1'`);
      expect(warnings).toEqual([
        {
          message: expect.stringMatching(
            '^the watches of public.member were not brought in line: .*is not a member of extension',
          ),
          hint: 'As the owner of both: select cache_invalidation.refresh();',
        },
      ]);
      const outbox = async () =>
        (await client.query('select target, error from cache_invalidation.outbox')).rows;
      expect(await outbox()).toEqual([{ target: 'member:*', error: null }]);
      await client.query('delete from cache_invalidation.changes');
      await client.query(`insert into public.member values (1, 'a')`);
      expect(await outbox()).toEqual([{ target: 'member:a', error: null }]);
      const { rows: problems } = await client.query('select * from cache_invalidation.problems()');
      expect(problems).toEqual([]);
    } finally {
      await client.end();
      await database.drop();
      await server.stop();
      await rm(folder, { recursive: true });
    }
  });
});
