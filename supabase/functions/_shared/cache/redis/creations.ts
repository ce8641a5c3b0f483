/**
 * SET with NX and GET in two commands, for a server that refuses them together (Redis before 7): SET NX, then GET, whose reply is the
 * fence. The first refusal costs one load its store: a pipeline that holds a SET is never sent again.
 */
import { RedisFailure } from './failure.ts';
import type { Reply, Write } from './writes.ts';

/** Whether the server refused the combination. */
export function isRefused(write: Write | undefined, reply: RedisFailure): boolean {
  return write?.op === 'create' && reply.kind === 'rejected';
}

export function splitCreations(writes: readonly Write[]): Write[] {
  return writes.flatMap((write): Write[] =>
    write.op === 'create'
      ? [
          { ...write, op: 'create-only' },
          { op: 'get', key: write.key },
        ]
      : [write],
  );
}

/**
 * One reply to each of the writes that splitCreations was given, as the server replies to NX with GET.
 * @returns 0 for a fence that was gone again when GET came: it is not confirmed
 */
export function foldCreations(writes: readonly Write[], given: readonly Reply[]): Reply[] {
  const left = given.values();
  const next = (): Reply => left.next().value ?? null;
  return writes.map((write) => {
    const reply = next();
    if (write.op !== 'create') return reply;
    const found = next();
    if (reply instanceof RedisFailure || found instanceof RedisFailure) {
      return reply instanceof RedisFailure ? reply : found;
    }
    if (reply === 'OK' && found === write.value) return null;
    return found ?? 0;
  });
}
