/** What `npm start` prints when the stack is up: where everything is, and three commands that show what it is for. */
import type { StackAddresses } from './stack.ts';

/** The seeded quota that the commands read and change (supabase/seed.sql). */
const QUOTA = { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' };

/**
 * The table of addresses.
 * @param file where they are all written down
 */
export function describeAddresses(stack: StackAddresses, file: string): string {
  return [
    `  Edge functions  ${stack.functionsUrl}`,
    `  API             ${stack.apiUrl}`,
    `  Worker          ${stack.workerUrl}  (dashboard; /healthz /readyz /metrics)`,
    `  Postgres        ${stack.databaseUrl}`,
    `  Upstash REST    ${stack.upstashUrl}  token ${stack.upstashToken}`,
    '',
    `  Token of a member of ${QUOTA.org}: ${stack.userToken}`,
    `  All of this is in ${file} while the stack is up.`,
  ].join('\n');
}

/**
 * Read twice, change, read again.
 * @param hasPsql without it the change is a line of JavaScript that Node runs from this folder
 */
export function tryItCommands(stack: StackAddresses, hasPsql: boolean): readonly [string, string, string] {
  const url = `${stack.functionsUrl}/quota-check?${new URLSearchParams(QUOTA)}`;
  const read = `curl -i -w '\\n\\n' -H 'Authorization: Bearer ${stack.userToken}' '${url}'`;
  const where = (quote: (text: string) => string) =>
    `org_id = ${quote(QUOTA.org)} and provider = ${quote(QUOTA.provider)} and model = ${quote(QUOTA.model)}`;
  const update = 'update public.quotas set token_limit = token_limit + 500000 where';
  const change = hasPsql
    ? `psql '${stack.databaseUrl}' -c "${update} ${where((text) => `'${text}'`)}"`
    : // Dollar quotes: single ones end the shell's word, double ones JavaScript's.
      `node -e 'const c = new (require("pg").Client)("${stack.databaseUrl}"); c.connect()` +
      `.then(() => c.query("${update} ${where((text) => `$$${text}$$`)}"))` +
      `.then((r) => console.log(r.command, r.rowCount)).finally(() => c.end())'`;
  return [`${read} '${url}'`, change, read];
}
