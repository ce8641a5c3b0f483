/** What protects an installation from a bullmq whose runner sends other text; the rest is in tests/worker/queue-install.test.ts. */
import type * as bullmq from 'bullmq';
import { expect, it, vi } from 'vitest';
import { queueSql } from './install.ts';

const change = vi.hoisted(() => ({ text: (text: string) => text }));

vi.mock('bullmq', async (original) => {
  const actual = await original<typeof bullmq>();
  const runMigrations: typeof bullmq.runMigrations = (client, ...rest) =>
    actual.runMigrations(
      { query: (text, values) => client.query(change.text(text), values) } as typeof client,
      ...rest,
    );
  return { ...actual, runMigrations };
});

it('prints no statement that creates a schema', async () => {
  change.text = (text) => text;
  expect(await queueSql()).not.toMatch(/^\s*create schema/im);
});

it.each([
  ['creates the schema in other words', 'CREATE SCHEMA IF NOT EXISTS', 'CREATE SCHEMA'],
  ['does not create the schema', /^CREATE SCHEMA.*$/, 'SELECT 1'],
  ['commits in other words', /^COMMIT$/, 'COMMIT WORK'],
])('refuses a runner that %s', async (_, from, to) => {
  change.text = (text) => text.replace(from, to);
  await expect(queueSql()).rejects.toThrow('another way');
});
