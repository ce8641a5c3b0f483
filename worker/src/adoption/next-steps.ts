/** What to do after `fencepost init`, in words: as much as a person needs to get to the first invalidation. */
import type { Plan } from './plan.ts';

export interface Situation {
  readonly later: Plan['later'];
  /** For the import map of each function that reads through the cache. */
  readonly imports: Readonly<Record<string, string>>;
  /** The cache module's folder in supabase/functions. */
  readonly into: string;
}

export function nextSteps({ later, imports, into }: Situation): string {
  const includeAll = later.length === 0 ? '' : ' --include-all';
  const step = (number: number, title: string, lines: readonly string[]) =>
    [`  ${number}. ${title}`, ...lines.map((line) => `       ${line}`)].join('\n');
  return [
    step(1, 'Push the migrations (without --remote: to your local stack).', [
      `npx supabase db push --remote${includeAll}`,
      ...outOfOrder(later),
    ]),
    step(2, 'Watch your tables, one line each, in a migration of yours: npx supabase migration new watches', [
      `select cache_invalidation.watch('public.orders', 'orders:{customer_id}:*');   -- a group: any number of keys`,
      `select cache_invalidation.watch('public.products', 'product:{id}:details');   -- one key`,
    ]),
    step(
      3,
      `Read through the cache: import { getOrSet } from '../${into}/cache.ts'. Its packages, in the function's deno.json:`,
      [
        `"imports": ${JSON.stringify(imports).replaceAll(/([:{,](?=")|(?=}))/g, '$1 ')}`,
        'npx supabase secrets set UPSTASH_REDIS_REST_URL=… UPSTASH_REDIS_REST_TOKEN=…',
      ],
    ),
    step(
      4,
      'Run the worker, not here but in the Fencepost repository, with DATABASE_URL and the same two variables:',
      [
        'npx fencepost doctor   # what is still missing',
        'npx fencepost run      # or the image of worker/Dockerfile, which holds the same commands',
      ],
    ),
  ].join('\n');
}

function outOfOrder(later: readonly string[]): string[] {
  const [first] = later;
  if (first === undefined) return [];
  const are = later.length === 1 ? 'is' : `and ${later.length - 1} more of yours are`;
  return [
    `--include-all, because ${first} ${are} later: without it Supabase pushes nothing older than what it has.`,
  ];
}
