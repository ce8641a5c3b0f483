import { expect, it } from 'vitest';
import { sumCommands } from '../../../supabase/functions/_shared/cache/protocol/statistics.ts';
import { CommandRecord } from './command-record.ts';

const HOUR_MS = 3_600_000;
const NOON = Date.UTC(2026, 10, 1, 12);

/** A server that counts what is billed, and may refuse. */
function fixture() {
  const hashes = new Map<string, Map<string, string>>();
  const world = { sent: 0, refusing: false, done: Promise.resolve() };
  const record = async (key: string, field: string, value: string): Promise<void> => {
    world.sent += 2;
    if (world.refusing) throw new Error('refused');
    hashes.set(key, (hashes.get(key) ?? new Map()).set(field, value));
  };
  const recording = new CommandRecord(
    {
      record: (key, field, value) => {
        const done = record(key, field, value);
        world.done = done.catch(() => undefined);
        return done;
      },
    },
    () => world.sent,
  );
  return {
    world,
    async send(commands: number, now: number) {
      world.sent += commands;
      recording.writeIfDue(now);
      await world.done;
    },
    recorded: () =>
      Object.fromEntries(
        [...hashes].map(([key, fields]) => [key.slice(-2), sumCommands(fields.values()).worker]),
      ),
  };
}

it('writes the hour’s count every 250 commands, its own included', async () => {
  const { send, recorded, world } = fixture();
  await send(249, NOON);
  expect(recorded()).toEqual({});
  await send(1, NOON);
  expect(recorded()).toEqual({ 12: 252 });
  await send(300, NOON);
  expect(recorded()).toEqual({ 12: 554 });
  await send(250, NOON + HOUR_MS);
  expect(recorded()).toEqual({ 12: 554, 13: 252 });
  expect(world.sent).toBe(554 + 252);
});

it('makes good for a failed write with the next one, and tries no more often', async () => {
  const { send, recorded, world } = fixture();
  world.refusing = true;
  await send(250, NOON);
  await send(200, NOON);
  expect(world.sent).toBe(452);
  world.refusing = false;
  await send(50, NOON);
  expect(recorded()).toEqual({ 12: 504 });
  expect(world.sent).toBe(504);
});
