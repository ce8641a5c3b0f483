/**
 * Hit rates by type over a simulated working day, beside the targets, and what its reads are billed, beside a cache that does
 * GET, and after a miss SET.
 *
 *     npx tsx bench/functions/working-day.ts [--steps 8] [--seed 1]
 *
 * Real: the functions' handlers, the cache module, its keys, TTLs and fences, and what the declared watches invalidate.
 * Simulated: the clock, Redis (virtual-redis.ts), the database's answers, and the people. An invalidation takes no time.
 *
 * The people:
 * - 20 organisations of 10 users, 8 hours. A user has 60 prompts a day, in tasks of 5 with about two minutes between prompts and
 *   pauses between tasks, so that about three of ten are active at a time.
 * - A task uses one model. An organisation has four: 70, 15, 10 and 5 % of tasks.
 * - A prompt makes `steps` model and tool calls (an agent at work), ten seconds apart; each checks the quota and reads the
 *   session's state. Usage is recorded when the prompt is done, once, for all of its calls: that write invalidates the
 *   organisation's quotas, and its summaries at most once a minute. The session's state is saved then too.
 * - While a prompt is written its cost is estimated six times. Two prices change that day.
 * - Active users see today's usage of their organisation, renewed once a minute; two members of each organisation keep the last
 *   30 days open, renewed every 30 s, for two hours.
 * - Preferences are read with every task and written once a day.
 */
import { parseArgs } from 'node:util';
import type { Caller } from '../../supabase/functions/_shared/auth/authenticate.ts';
import { deletionsFor } from '../../supabase/functions/_shared/cache/protocol/fences.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';
import type { FunctionDependencies } from '../../supabase/functions/_shared/function.ts';
import { createHandler as costEstimate } from '../../supabase/functions/cost-estimate/index.ts';
import { createHandler as quotaCheck } from '../../supabase/functions/quota-check/index.ts';
import { createHandler as sessionState } from '../../supabase/functions/session-state/index.ts';
import { createHandler as usageSummary } from '../../supabase/functions/usage-summary/index.ts';
import { createHandler as userPreferences } from '../../supabase/functions/user-preferences/index.ts';
import { answersOf, randomOf, Schedule } from './simulation.ts';
import { VirtualRedis } from './virtual-redis.ts';

const { values } = parseArgs({
  options: { steps: { type: 'string', default: '8' }, seed: { type: 'string', default: '1' } },
});
const STEPS = Number(values.steps);
const random = randomOf(Number(values.seed));

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const START = Date.parse('2026-11-02T09:00:00Z');
const END = START + 8 * HOUR;
const ORGANISATIONS = 20;
const USERS = 10;
const TASKS = 12;
const PROMPTS = 5;
const MODELS = [
  ['openai', 'gpt-5-mini', 0.7],
  ['anthropic', 'claude-sonnet-5-5', 0.85],
  ['google', 'gemini-3.7-flash', 0.95],
  ['bedrock', 'ai21.jamba-1-5-large-v1:0', 1],
] as const;

let now = START;
const redis = new VirtualRedis(() => now);
const cache = createCache({
  connection: redis,
  runtime: {
    now: () => now,
    monotonic: () => now,
    random,
    randomToken: () => `${random()}-${random()}-${random()}`,
    sleep: () => Promise.resolve(),
    background: () => undefined,
  },
});
const dependencies: FunctionDependencies = {
  settings: { allowedOrigins: ['*'] },
  authenticate: async (request): Promise<Caller> => {
    const userId = request.headers.get('authorization') ?? '';
    return { kind: 'user', userId, token: userId };
  },
  database: answersOf(),
  cache,
  now: () => now,
};
const handlers = {
  'quota-check': quotaCheck(dependencies),
  'usage-summary': usageSummary(dependencies),
  'cost-estimate': costEstimate(dependencies),
  'session-state': sessionState(dependencies),
  'user-preferences': userPreferences(dependencies),
};
type Name = keyof typeof handlers;
const seen = new Map<Name, { hits: number; reads: number }>();

async function read(name: Name, user: string, parameters: Record<string, string>): Promise<void> {
  const url = `http://functions/${name}?${new URLSearchParams(parameters)}`;
  const response = await handlers[name](new Request(url, { headers: { authorization: user } }));
  if (response.status !== 200) throw new Error(`${name}: ${response.status} ${await response.text()}`);
  const counted = seen.get(name) ?? { hits: 0, reads: 0 };
  counted.reads += 1;
  if (response.headers.get('x-cache') === 'HIT') counted.hits += 1;
  seen.set(name, counted);
}

const invalidate = (target: string) => redis.delete(deletionsFor(target).keys);

/** What min_interval does: at once after a quiet minute, else when the minute is over. */
const lastSummaryAt = new Map<string, number>();
function usageWritten(org: string): void {
  const due = (lastSummaryAt.get(org) ?? Number.NEGATIVE_INFINITY) + MINUTE;
  if (due > END) return;
  if (due <= now) {
    lastSummaryAt.set(org, now);
    invalidate(`usage:${org}:*`);
  } else {
    lastSummaryAt.set(org, due);
    schedule.at(due, () => void invalidate(`usage:${org}:*`));
  }
}

const schedule = new Schedule();

function planUser(org: string, user: string, session: string): void {
  for (let task = 0; task < TASKS; task += 1) {
    const begins = START + ((task + random() * 0.6) / TASKS) * 8 * HOUR;
    const share = random();
    const [provider, model] = MODELS.find(([, , upTo]) => share < upTo) ?? MODELS[0];
    schedule.at(begins, () => read('user-preferences', user, {}));
    let at = begins;
    for (let prompt = 0; prompt < PROMPTS; prompt += 1) {
      const estimate = { provider, model, input_tokens: '2000', output_tokens: '500' };
      for (let edit = 0; edit < 6; edit += 1)
        schedule.at(at + edit * 4 * SECOND, () => read('cost-estimate', user, estimate));
      at += 25 * SECOND;
      for (let step = 0; step < STEPS; step += 1) {
        schedule.at(at, () => read('quota-check', user, { org, provider, model }));
        schedule.at(at, () => read('session-state', user, { id: session }));
        at += 10 * SECOND * (0.5 + random());
      }
      schedule.at(at, () => {
        invalidate(`quota:${org}:*`);
        invalidate(`session:${session}:state`);
        usageWritten(org);
      });
      at += 30 * SECOND * (0.5 + random());
    }
    const today = { org, start: '2026-11-02', end: '2026-11-02' };
    for (let look = begins; look < at; look += MINUTE)
      schedule.at(look, () => read('usage-summary', user, today));
  }
  schedule.at(START + random() * 8 * HOUR, () => void invalidate(`user:${user}:prefs`));
}

for (let number = 0; number < ORGANISATIONS; number += 1) {
  const org = `org-${number}`;
  const users = Array.from({ length: USERS }, (_, index) =>
    `${number}${index}`.padStart(8, '0').concat('-0000-4000-8000-000000000000'),
  );
  for (const user of users) planUser(org, user, `session-of-${user}`);
  for (const watcher of users.slice(0, 2)) {
    const from = START + random() * 6 * HOUR;
    const month = { org, start: '2026-10-04', end: '2026-11-02' };
    for (let look = from; look < from + 2 * HOUR; look += 30 * SECOND)
      schedule.at(look, () => read('usage-summary', watcher, month));
  }
}
for (const [provider, model] of MODELS.slice(0, 2)) {
  schedule.at(START + random() * 8 * HOUR, () => void invalidate(`cost:${provider}:${model}`));
}

await schedule.run((time) => {
  now = time;
});

const TARGETS: Readonly<Record<Name, number | null>> = {
  'quota-check': 80,
  'usage-summary': 60,
  'cost-estimate': 95,
  'session-state': 70,
  'user-preferences': null,
};
console.log(
  `${STEPS} calls a prompt, seed ${values.seed}\n\n| type | reads | hits | target |\n|---|---|---|---|`,
);
for (const [name, { hits, reads }] of [...seen].sort()) {
  const target = TARGETS[name];
  console.log(
    `| ${name} | ${reads} | ${((100 * hits) / reads).toFixed(1)} % | ${target === null ? '' : `${target} %`} |`,
  );
}
const [reads, hits] = [...seen.values()].reduce(
  ([all, found], counted) => [all + counted.reads, found + counted.hits],
  [0, 0],
);
const naive = reads + (reads - hits);
console.log(
  `\n${redis.billed} commands for ${reads} reads, ${((100 * hits) / reads).toFixed(1)} % of them hits; GET and SET would be ${naive}: ` +
    `${(redis.billed / naive).toFixed(2)} times as many.`,
);
