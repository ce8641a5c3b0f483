/**
 * What a reader gains: the latency of a hit beside the same function's answer without a cache, under a million usage rows.
 *
 *     npx tsx bench/functions/reader-gain.ts [--rows 1000000] [--requests 300]
 *
 * Both are the same functions under the same Deno over the same PostgREST and Postgres; one has the cache configured, the other
 * has not. Requests alternate between the two, one at a time, so that a busy machine hurts both alike. Everything is on one
 * machine: no network lies between the parts, which flatters the uncached side, whose requests cross it more often.
 *
 * The quota check has a third column: the quota's use summed over the month's usage rows, which is what a team pays that keeps
 * no `used` column. Assumptions: rows spread evenly over 90 days and over 20 organisations.
 */
import { parseArgs } from 'node:util';
import pg from 'pg';
import { startFunctions } from '../../local/parts/functions.ts';
import {
  callFunction,
  JWT_SECRET,
  type Parameters,
  startFunctionStack,
} from '../../tests/functions/setup/stack.ts';
import { cloneFrom, startTemplate } from '../../tests/setup/template.ts';

const { values } = parseArgs({
  options: { rows: { type: 'string', default: '1000000' }, requests: { type: 'string', default: '300' } },
});
const rows = Number(values.rows);
const requests = Number(values.requests);

const day = (offset: number) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);
const QUESTIONS: readonly { name: string; label: string; goal: number; parameters: Parameters }[] = [
  {
    name: 'quota-check',
    label: 'quota check',
    goal: 90,
    parameters: { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' },
  },
  {
    name: 'usage-summary',
    label: 'usage summary, 30 days',
    goal: 90,
    parameters: { org: 'org-acme', start: day(-29), end: day(0) },
  },
  {
    name: 'cost-estimate',
    label: 'cost estimate',
    goal: 95,
    parameters: { provider: 'openai', model: 'gpt-5-mini', input_tokens: 1_000, output_tokens: 500 },
  },
  { name: 'session-state', label: 'session state', goal: Number.NaN, parameters: { id: 'session-acme-1' } },
];

const template = await startTemplate();
const stack = await startFunctionStack({ database: await cloneFrom(template.url) });
const uncached = await startFunctions({
  environment: {
    SUPABASE_URL: stack.apiUrl,
    SUPABASE_ANON_KEY: stack.tokens.anonymous ?? '',
    FENCEPOST_JWT_SECRET: JWT_SECRET,
  },
});
try {
  await fill();
  await stack.settled();
  const summed = await timeSummedQuota();
  console.log(`${rows} usage rows, ${requests} requests a cell, milliseconds (p50 / p99)\n`);
  console.log('| question | hit | without a cache | gain at p50 | goal |\n|---|---|---|---|---|');
  for (const { name, label, goal, parameters } of QUESTIONS) {
    const hit: number[] = [];
    const miss: number[] = [];
    for (let index = -20; index < requests; index += 1) {
      const cached = await time(stack.functions.url, name, parameters, index < 0 ? undefined : 'HIT');
      const loaded = await time(uncached.url, name, parameters, 'BYPASS');
      if (index < 0) continue;
      hit.push(cached);
      miss.push(loaded);
    }
    const gain = 100 * (1 - quantile(hit, 0.5) / quantile(miss, 0.5));
    const target = Number.isNaN(goal) ? '' : `${goal} %`;
    console.log(`| ${label} | ${both(hit)} | ${both(miss)} | ${gain.toFixed(0)} % | ${target} |`);
    if (name === 'quota-check') {
      const gainOverSum = 100 * (1 - quantile(hit, 0.5) / quantile(summed, 0.5));
      console.log(
        `| quota check, use summed from usage rows (SQL alone) | ${both(hit)} | ${both(summed)} | ${gainOverSum.toFixed(0)} % | ${target} |`,
      );
    }
  }
} finally {
  await uncached.stop();
  await stack.stop();
  await template.stop();
}

async function time(base: string, name: string, parameters: Parameters, expected?: string): Promise<number> {
  const startedAt = performance.now();
  const called = await callFunction(base, stack.tokens, name, parameters, { as: 'member' });
  const duration = performance.now() - startedAt;
  const outcome = called.headers.get('x-cache');
  if (called.status !== 200 || (expected !== undefined && outcome !== expected)) {
    throw new Error(`${name}: ${called.status} ${outcome}, expected 200 ${expected}. ${called.text}`);
  }
  return duration;
}

/** Usage of 20 organisations over 90 days, and quotas for each; the doorbell is of no interest here. */
async function fill(): Promise<void> {
  await stack.sql(`
    insert into public.usage_events (org_id, user_id, provider, model, input_tokens, cached_tokens, output_tokens, cost, occurred_at)
    select
      case when n % 20 = 0 then 'org-acme' else 'org-bench-' || n % 20 end,
      'user-' || n % 97,
      p.provider, p.model, 1000 + n % 900, n % 500, 100 + n % 400, 0.00123,
      now() - make_interval(secs => (n::bigint * 7919) % (90 * 86400))
    from generate_series(1, ${rows}) as n
    join (
      select provider, model, row_number() over (order by provider, model) - 1 as i from public.model_prices
      where output_per_mtok is not null
    ) as p on p.i = n % 12`);
  await stack.sql('vacuum analyze public.usage_events');
}

/** The statement a team writes that has no `used` column, timed at the database with the caller's identity. */
async function timeSummedQuota(): Promise<number[]> {
  const client = new pg.Client({ connectionString: stack.databaseUrl });
  await client.connect();
  const times: number[] = [];
  for (let index = -3; index < 30; index += 1) {
    await client.query('begin');
    await client.query('set local role authenticated');
    await client.query(
      `set local request.jwt.claims = '{"role":"authenticated","sub":"11111111-1111-4111-8111-111111111111"}'`,
    );
    const startedAt = performance.now();
    await client.query(
      `select sum(input_tokens + output_tokens) from public.usage_events
       where org_id = 'org-acme' and provider = 'openai' and occurred_at >= now() - interval '30 days'`,
    );
    if (index >= 0) times.push(performance.now() - startedAt);
    await client.query('rollback');
  }
  await client.end();
  return times;
}

function both(times: readonly number[]): string {
  return `${quantile(times, 0.5).toFixed(1)} / ${quantile(times, 0.99).toFixed(1)}`;
}

function quantile(times: readonly number[], share: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}
