/**
 * Telling the application: its hooks and its log. They are its telemetry, so their failure, at once or later, is none of
 * the reader's business: it neither reaches a caller nor, as a rejection that nobody handles, ends a Node process.
 */

/** Calls a hook if there is one. It may be asynchronous; nobody waits for it. Never throws. */
export function tell<Arguments extends readonly unknown[]>(
  hook: ((...told: Arguments) => unknown) | undefined,
  ...told: Arguments
): void {
  try {
    const result = hook?.(...told);
    if (typeof result === 'object' && result !== null && 'then' in result) {
      Promise.resolve(result).catch(() => {});
    }
  } catch {
    // As above.
  }
}
