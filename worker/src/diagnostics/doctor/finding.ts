/** What one check of `doctor` found. */
export interface Finding {
  readonly name: string;
  /** `warn` does not fail the command: it is worth knowing, or will fail later. */
  readonly verdict: 'ok' | 'warn' | 'fail';
  readonly detail: string;
  /** What to do; present unless all is well. */
  readonly remedy?: string;
}

export const ok = (name: string, detail: string): Finding => ({ name, verdict: 'ok', detail });
export const warn = (name: string, detail: string, remedy: string): Finding => ({
  name,
  verdict: 'warn',
  detail,
  remedy,
});
export const fail = (name: string, detail: string, remedy: string): Finding => ({
  name,
  verdict: 'fail',
  detail,
  remedy,
});
