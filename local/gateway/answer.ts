/**
 * Redis replies as Upstash's JSON. Plain: bytes that are no UTF-8 become U+FFFD. With `Upstash-Encoding: base64` every
 * string is base64 except a reply of OK, which the client recognises by itself.
 */

/** A reply over RESP2 with bulk strings as bytes; errors are values. */
export type RedisReply = string | Buffer | number | null | Error | readonly RedisReply[];

export type Answer = { readonly result: unknown } | { readonly error: string };

/** One command's answer; an error reply keeps Redis's own words, as at Upstash. */
export function answerOf(reply: RedisReply, base64: boolean): Answer {
  if (reply instanceof Error) return { error: reply.message };
  if (reply === 'OK') return { result: 'OK' };
  return { result: toJson(reply, base64) };
}

function toJson(reply: RedisReply, base64: boolean): unknown {
  if (typeof reply === 'string') return base64 ? Buffer.from(reply).toString('base64') : reply;
  if (Buffer.isBuffer(reply)) return reply.toString(base64 ? 'base64' : 'utf8');
  if (Array.isArray(reply)) return reply.map((item: RedisReply) => toJson(item, base64));
  if (reply instanceof Error) return toJson(reply.message, base64);
  return reply;
}
