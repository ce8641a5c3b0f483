/**
 * What a reader gains: a hit beside the same function's answer without a cache, under a million usage rows.
 *
 *     npx tsx bench/functions/reader-gain.ts [--rows 1000000] [--requests 300] [--distances 0,10,50]
 *
 * Both run the same functions under the same Deno, PostgREST and Postgres; only one has the cache configured. Requests alternate
 * between the two, one at a time, so that other load on the machine affects both alike. Times are the function's own (`total` of
 * its server-timing), because the way from the user to the function is the same for both.
 *
 * `--distances` is how many milliseconds a query takes longer than a request to Redis: a proxy in front of PostgREST waits that
 * long before each query. 0 is everything on one machine, 10 another zone or a pooler, 50 a database in another region.
 *
 * A second line for the quota check is the statement of a team without a `used` column, which sums the month's usage rows, timed
 * in the database alone. Assumption: rows are spread evenly over 90 days and 20 organisations.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { startFunctions } from '../../local/parts/functions.ts';
import { JWT_SECRET } from '../../tests/functions/support/callers.ts';
import { callFunction, type Parameters, startFunctionStack } from '../../tests/functions/support/stack.ts';
import { cloneFrom, startTemplate } from '../../tests/support/template.ts';

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '1000000' },
    requests: { type: 'string', default: '300' },
    distances: { type: 'string', default: '0,10,50' },
  },
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
try {
  await fill();
  await stack.settled();
  const summed = await timeSummedQuota();
  console.log(`${rows} usage rows, ${requests} requests a cell, milliseconds (p50 / p99)\n`);
  console.log(
    '| distance | question | hit | without a cache | gain at p50 | goal |\n|---|---|---|---|---|---|',
  );
  for (const distance of values.distances.split(',').map(Number)) await measure(distance, summed);
} finally {
  await stack.stop();
  await template.stop();
}

/** One table's lines: all questions with the database so many milliseconds away. */
async function measure(distance: number, summed: readonly number[]): Promise<void> {
  const far = await startFarApi(distance);
  const environment = {
    // The functions reach the API through the distance; tokens are of the project itself.
    SUPABASE_URL: far.url,
    FENCEPOST_JWT_ISSUER: `${stack.apiUrl}/auth/v1`,
    SUPABASE_ANON_KEY: stack.tokens.anonymous ?? '',
    FENCEPOST_JWT_SECRET: JWT_SECRET,
    FENCEPOST_CACHE_TIMEOUT_MS: '10000',
  };
  const redis = { UPSTASH_REDIS_REST_URL: stack.gateway.url, UPSTASH_REDIS_REST_TOKEN: stack.gateway.token };
  const cached = await startFunctions({ environment: { ...environment, ...redis } });
  const uncached = await startFunctions({ environment });
  try {
    for (const { name, label, goal, parameters } of QUESTIONS) {
      const hit: number[] = [];
      const miss: number[] = [];
      for (let index = -20; index < requests; index += 1) {
        const withCache = await time(cached.url, name, parameters, index < 0 ? undefined : 'HIT');
        const without = await time(uncached.url, name, parameters, 'BYPASS');
        if (index < 0) continue;
        hit.push(withCache);
        miss.push(without);
      }
      print(distance, label, hit, miss, goal);
      if (name === 'quota-check' && distance === 0)
        print(distance, 'quota check, summed (SQL alone)', hit, summed, goal);
    }
  } finally {
    await Promise.all([cached.stop(), uncached.stop(), far.stop()]);
  }
}

function print(
  distance: number,
  label: string,
  hit: readonly number[],
  miss: readonly number[],
  goal: number,
): void {
  const gain = 100 * (1 - quantile(hit, 0.5) / quantile(miss, 0.5));
  const target = Number.isNaN(goal) ? '' : `${goal} %`;
  console.log(
    `| ${distance} ms | ${label} | ${both(hit)} | ${both(miss)} | ${gain.toFixed(0)} % | ${target} |`,
  );
}

/** @returns the function's own time in milliseconds */
async function time(base: string, name: string, parameters: Parameters, expected?: string): Promise<number> {
  const called = await callFunction(base, stack.tokens, name, parameters, { as: 'member' });
  const outcome = called.headers.get('x-cache');
  if (called.status !== 200 || (expected !== undefined && outcome !== expected)) {
    throw new Error(`${name}: ${called.status} ${outcome}, expected 200 ${expected}. ${called.text}`);
  }
  return Number(/total;dur=([\d.]+)/.exec(called.headers.get('server-timing') ?? '')?.[1]);
}

/** PostgREST, further away. */
async function startFarApi(distance: number): Promise<{ url: string; stop(): Promise<void> }> {
  if (distance === 0) return { url: stack.apiUrl, stop: () => Promise.resolve() };
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    await new Promise((resolve) => setTimeout(resolve, distance));
    const { host: _host, connection: _connection, ...headers } = request.headers as Record<string, string>;
    const answer = await fetch(`${stack.apiUrl}${request.url}`, {
      method: request.method ?? 'GET',
      headers,
      ...(chunks.length > 0 ? { body: Buffer.concat(chunks) } : {}),
    });
    response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? 'text/plain' });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Usage of 20 organisations over 90 days, and quotas for each. */
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
