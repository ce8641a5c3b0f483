/**
 * What a statement of many rows costs: seconds, and seconds of its backend on a processor, which a busy machine does not change.
 *
 *     npx tsx bench/capture/bulk.ts [--against ../before] [--rows 1000000] [--rounds 3]
 *
 * An UPDATE of every row, without a watch and with one, where all rows have one organisation and where each has its own. The
 * variants are interleaved; the median of the rounds counts. `--against` is that of throughput.ts.
 */
import { parseArgs } from 'node:util';
import { createTables, type Engine, startEngines } from '../support/database.ts';
import { median } from '../support/statistics.ts';

const { values: options } = parseArgs({
  options: {
    against: { type: 'string' },
    rows: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '3' },
  },
});

interface Seconds {
  readonly all: number;
  readonly processor: number;
}

async function update(engine: Engine, table: string): Promise<Seconds> {
  await engine.query('checkpoint');
  const [startedAt, startedOn] = [performance.now(), await engine.processorMs()];
  await engine.query(`update public.${table} set used = used + 1`);
  const [all, processor] = [performance.now() - startedAt, (await engine.processorMs()) - startedOn];
  await engine.clear();
  await engine.query(`vacuum public.${table}`);
  return { all: all / 1000, processor: processor / 1000 };
}

function medianOf(kind: keyof Seconds, samples: readonly Seconds[] = []): number {
  return median(samples.map((sample) => sample[kind]));
}

const engines = await startEngines(options.against);
try {
  for (const [label, org] of [
    ['one organisation', '1'],
    ['an organisation each', 'i'],
  ] as const) {
    for (const engine of engines.all) await createTables(engine, ['none', 'one'], Number(options.rows), org);
    const samples = new Map<string, Seconds[]>();
    for (let round = 0; round < Number(options.rounds); round += 1) {
      const take = async (engine: Engine, table: string, name: string) =>
        void samples.set(name, [...(samples.get(name) ?? []), await update(engine, table)]);
      await take(engines.present, 'none', 'none');
      for (const engine of engines.all) await take(engine, 'one', `one, ${engine.name}`);
    }
    const none = samples.get('none');
    for (const [name, taken] of samples) {
      const figures = (['all', 'processor'] as const).map((kind) => {
        const seconds = medianOf(kind, taken);
        return `${seconds.toFixed(1).padStart(6)} s ${(seconds / medianOf(kind, none)).toFixed(2)}`;
      });
      console.log(`${label.padEnd(20)}  ${name.padEnd(12)} ${figures[0]}   processor ${figures[1]}`);
    }
    for (const engine of engines.all)
      await engine.query('drop table public.none, public.one, public.parents');
  }
} finally {
  await engines.stop();
}
process.exit(0);
