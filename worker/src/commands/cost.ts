/** `fencepost cost`: what the cache and its worker cost at Upstash in a month, and what they spare the database. */

import { type Bill, type Costs, costs } from '../diagnostics/status/costs.ts';
import { RecordedDay } from '../diagnostics/status/recorded-day.ts';
import { ExitCode } from '../lib/errors.ts';
import { FREE_COMMANDS_A_MONTH } from '../metrics/command-record.ts';
import { withContext } from './command-context.ts';
import { print, printJson, table } from './output.ts';

export function cost(variables: NodeJS.ProcessEnv, json: boolean): Promise<ExitCode> {
  return withContext(variables, async ({ cache }) => {
    const now = Date.now();
    const result = costs(await new RecordedDay(cache).read(now), now);
    if (json) printJson(result);
    else show(result);
    return ExitCode.ok;
  });
}

function show({ since, readers, worker, together, reads, loads }: Costs): void {
  if (since === null) {
    print(
      'Nothing was written down in the last 24 h: readers do so with a read, a minute after their first; a worker after 250 commands.',
    );
    return;
  }
  print(
    table([
      ['', `COMMANDS SINCE ${since.slice(11, 16)} UTC`, 'IN 30 DAYS', 'DOLLARS'],
      billRow('readers', readers),
      billRow('worker', worker),
      billRow('together', together),
    ]),
  );
  print(`\n${number(reads)} reads asked the database ${number(loads)} times.`);
  if (together.monthly === null) print('A month is projected when the record has a whole hour.');
  else if (together.monthly > FREE_COMMANDS_A_MONTH) {
    print(`The free plan's ${number(FREE_COMMANDS_A_MONTH)} commands a month would not do.`);
  } else print(`The free plan's ${number(FREE_COMMANDS_A_MONTH)} commands a month would do.`);
}

function billRow(name: string, { commands, monthly, dollars }: Bill): string[] {
  return [name, number(commands), monthly === null ? '-' : number(monthly), dollars?.toFixed(2) ?? '-'];
}

function number(value: number): string {
  return value.toLocaleString('en').replaceAll(',', ' ');
}
