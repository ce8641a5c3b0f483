/**
 * Which browser pages may call: the origins of FENCEPOST_ALLOWED_ORIGINS. An origin is compared with what a browser sends, letter by
 * letter; `*` stands for all, and `https://*.example.com` for every host below example.com, but not for example.com itself.
 */

/** Whether some browser could send an origin that this entry allows. */
export function canMatch(entry: string): boolean {
  // `null` is what a page from a file or a sandboxed frame sends.
  if (entry === '*' || entry === 'null') return true;
  const origin = entry.replace('://*.', '://any.');
  if (!URL.canParse(origin)) return false;
  const { protocol, host } = new URL(origin);
  return origin === `${protocol}//${host}` && host !== '' && !host.includes('*');
}

/** @param allowed entries for which canMatch() is true */
export function isAllowed(origin: string, allowed: readonly string[]): boolean {
  return allowed.some((entry) => {
    const [scheme, suffix] = entry.split('*');
    if (suffix === undefined) return entry === origin;
    return origin.length > entry.length - 1 && origin.startsWith(scheme ?? '') && origin.endsWith(suffix);
  });
}
