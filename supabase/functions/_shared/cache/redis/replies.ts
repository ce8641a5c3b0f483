/**
 * The shapes of Redis's replies. Each function gives the value, or undefined for a reply that Redis does not give: a success
 * alone proves nothing, since a proxy may answer in its place.
 */

/** One reply of a pipeline that keeps its errors. */
export interface PipelineReply {
  readonly error?: string;
  readonly result?: unknown;
}

export function textOrNull(reply: unknown): string | null | undefined {
  return typeof reply === 'string' || reply === null ? reply : undefined;
}

export function count(reply: unknown): number | undefined {
  return typeof reply === 'number' && Number.isInteger(reply) ? reply : undefined;
}

export function replyTo(reply: unknown): string | number | null | undefined {
  return typeof reply === 'number' ? reply : textOrNull(reply);
}

export function exactly(word: string): (reply: unknown) => string | undefined {
  return (reply) => (reply === word ? word : undefined);
}

export function valuesOf(length: number): (reply: unknown) => (string | null)[] | undefined {
  return (reply) => listOf<string | null>(reply, length, (one) => textOrNull(one) !== undefined);
}

export function listOf<T>(reply: unknown, length: number, fits: (one: unknown) => boolean): T[] | undefined {
  return Array.isArray(reply) && reply.length === length && reply.every(fits) ? reply : undefined;
}
