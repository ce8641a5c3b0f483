/**
 * How a variable of the environment is read, the same for readers, edge functions and the worker: a prefix or an address that two
 * of them read differently would part them in silence. Values are trimmed; mistakes that are seen again and again are named. No
 * problem repeats a value.
 */
import { UNREPRESENTABLE } from './fences.ts';

/** The longest prefix: keys have to stay short beside it. */
const LONGEST_PREFIX = 100;

/** The value without white space around it; undefined when there is nothing left, which counts as not set. */
export function trimmed(value: string | undefined): string | undefined {
  const text = value?.trim();
  return text === '' ? undefined : text;
}

const QUOTE = '["\'`“”„«»‘’]';
const IN_QUOTES = new RegExp(`^${QUOTE}[^]*${QUOTE}$`);
const QUOTE_AT_AN_END = new RegExp(`^${QUOTE}|${QUOTE}$`);

/** Quotes that a shell takes away, but `docker --env-file`, a dashboard's field and many other places do not; or one that was left. */
export function quotesProblem(text: string): string | null {
  if (IN_QUOTES.test(text)) return 'stands in quotes, which are part of the value here: leave them out';
  if (!QUOTE_AT_AN_END.test(text)) return null;
  return 'has a quote at one end, which is part of the value here: leave it out';
}

/** URL takes `name.upstash.io,` for a host, and the second scheme of `https://https://name.upstash.io` too. */
const HOST = /^(?!https?$)(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])$/;

export type Address = { readonly url: string; readonly problem: null } | { readonly problem: string };

/**
 * An http(s) address without slashes at its end. A host name alone means https.
 * @param expected what such an address looks like
 */
export function httpAddress(text: string, expected: string): Address {
  const quotes = quotesProblem(text);
  if (quotes !== null) return { problem: quotes };
  const hasScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text);
  // Of a name without a dot, or a number, nobody knows whether it speaks TLS.
  const isHostName = /^(?:[a-z0-9-]+\.)+[a-z]{2,}(?:[:/]|$)/i.test(text);
  const full = hasScheme || !isHostName ? text : `https://${text}`;
  if (/\s/.test(text) || !URL.canParse(full)) return { problem: `is not an address: expected ${expected}` };
  const url = new URL(full);
  if (url.protocol === 'redis:' || url.protocol === 'rediss:')
    return { problem: 'is a redis:// address: use the REST address, which begins with https://' };
  if ((url.protocol !== 'https:' && url.protocol !== 'http:') || !HOST.test(url.hostname))
    return { problem: `is not an address: expected ${expected}` };
  if (`${url.username}${url.password}${url.search}${url.hash}` !== '')
    return {
      problem:
        'holds more than an address (a user, a password, ? or #), which no request can carry: leave it out',
    };
  if (/(^|\.)upstash\.(io|com)$/.test(url.hostname) && (url.port !== '' || /[^/]/.test(url.pathname)))
    return { problem: `has a port or a path, which no REST address of Upstash has: expected ${expected}` };
  return { url: url.origin + url.pathname.replace(/\/+$/, ''), problem: null };
}

/** What no header can hold, and what no token has. */
export function tokenProblem(text: string): string | null {
  const fits = /^[\x21-\x7e]+$/.test(text);
  return (
    quotesProblem(text) ?? (fits ? null : 'holds characters that no token has: copy it again, without spaces')
  );
}

export function prefixProblem(text: string): string | null {
  const quotes = quotesProblem(text);
  if (quotes !== null) return quotes;
  // What Redis would be asked for is not what the worker deletes.
  if (UNREPRESENTABLE.test(text)) return 'holds NUL or half of a surrogate pair: leave it out';
  return text.length > LONGEST_PREFIX ? `is longer than ${LONGEST_PREFIX} characters` : null;
}
