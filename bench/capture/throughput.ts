/**
 * What capture costs writers: updates of one row by primary key.
 *
 *   none      no watch
 *   one       one watch
 *   three     three watches of different columns
 *   joined    a target that is looked up in a parent table
 *
 *     npx tsx bench/capture/throughput.ts [--against ../before] [--seconds 5] [--rounds 5] [--clients 1,16,64] [--flush on,off]
 *       [--variants one,three,joined] [--protocol simple] [--request]
 *
 * `--against` names another checkout of this repository, with its packages: its engine is measured in the same rounds, in a second
 * database of the same server. Each engine has its own worker, because neither worker can claim from the other's tables; worker,
 * gateway and Redis share the processors with the database. The variants are interleaved, so that all of them meet the same load of
 * the machine, and the median of the rounds counts.
 *
 * `--flush off` sets synchronous_commit off, so that only the processor counts. `--protocol` is pgbench's: `prepared`, where a
 * transaction costs least and capture weighs most; `extended`; or `simple`. With `--request` each update is what PostgREST sends: a
 * transaction of four statements, with the caller's role and settings.
 */
import { parseArgs } from 'node:util';
import { createTables, type Engine, pgbench, startEngines } from '../support/database.ts';
import { median } from '../support/statistics.ts';
import { startBenchWorker, startCacheServer } from '../support/worker.ts';

const { values: options } = parseArgs({
  options: {
    against: { type: 'string' },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '5' },
    clients: { type: 'string', default: '1,16,64' },
    flush: { type: 'string', default: 'on' },
    variants: { type: 'string', default: 'one,three,joined' },
    protocol: { type: 'string', default: 'prepared' },
    request: { type: 'boolean', default: false },
  },
});

const ROWS = 100_000;
const variants = options.variants.split(',');

/** What PostgREST sends for a PATCH that returns nothing. Its unpacking of the body as JSON is left out. */
function request(update: string): string {
  return `begin isolation level read committed read write;
    select set_config('search_path', '"public"', true), set_config('role', 'authenticated', true),
      set_config('request.jwt.claims', '{"sub":"user-1","role":"authenticated","aud":"authenticated"}', true),
      set_config('request.method', 'PATCH', true), set_config('request.path', '/quotas', true),
      set_config('request.headers', '{"accept":"*/*","content-type":"application/json","host":"localhost"}', true),
      set_config('request.cookies', '{}', true);
    with pgrst_source as (${update} returning 1)
      select '' as total_result_set, count(*) as page_total, array[]::text[] as header, ''::text as body,
        nullif(current_setting('response.headers', true), '') as response_headers,
        nullif(current_setting('response.status', true), '') as response_status
      from pgrst_source;
    commit;
`;
}

async function measure(engine: Engine, table: string, clients: number, flush: string): Promise<number> {
  const update = `update public.${table} set used = used + 1 where id = :id`;
  const script = `\\set id random(1, ${ROWS})\n${options.request ? request(update) : `${update};\n`}`;
  const worker =
    table === 'none'
      ? undefined
      : await startBenchWorker(
          { databaseUrl: engine.url, gatewayUrl: cacheServer.gatewayUrl },
          {},
          true,
          engine.checkout,
        );
  try {
    const seconds = Number(options.seconds);
    return await pgbench(engine.url, script, { clients, seconds, protocol: options.protocol, flush });
  } finally {
    await worker?.stop();
    await engine.clear();
    await engine.query(`vacuum public.${table}`);
  }
}

async function measureAll(clients: number, flush: string): Promise<void> {
  const samples = new Map<string, number[]>();
  for (let round = 0; round < Number(options.rounds); round += 1) {
    const take = async (engine: Engine, table: string, label: string) => {
      const tps = Math.round(await measure(engine, table, clients, flush));
      samples.set(label, [...(samples.get(label) ?? []), tps]);
      console.error(`  ${clients} clients, flush ${flush}, round ${round + 1}, ${label}: ${tps} a second`);
    };
    await take(engines.present, 'none', 'none');
    for (const table of variants) {
      for (const engine of engines.all) await take(engine, table, `${table}, ${engine.name}`);
    }
  }
  const base = median(samples.get('none') ?? []);
  for (const [label, tps] of samples) {
    const sorted = [...tps].sort((a, b) => a - b).join(', ');
    console.log(
      `${String(clients).padStart(3)} clients  flush ${flush.padEnd(3)}  ${label.padEnd(16)} ${String(median(tps)).padStart(6)} a second  ${(median(tps) / base).toFixed(2)}   [${sorted}]`,
    );
  }
}

const engines = await startEngines(options.against);
const cacheServer = await startCacheServer();
try {
  for (const engine of engines.all) await createTables(engine, ['none', ...variants], ROWS);
  for (const flush of options.flush.split(',')) {
    for (const clients of options.clients.split(',').map(Number)) await measureAll(clients, flush);
  }
} finally {
  await cacheServer.stop();
  await engines.stop();
}
process.exit(0);
