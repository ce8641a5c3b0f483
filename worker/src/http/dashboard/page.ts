/**
 * The dashboard: one page that says whether invalidations flow, and if not, why. It loads nothing from elsewhere, shows no key
 * and no value, and works without its script, which only refreshes it.
 */
import { html } from 'hono/html';
import { ALIVE_MS } from '../../db/lock-holders.ts';
import { type HitRate, meetsTarget } from '../../diagnostics/status/hit-rates.ts';
import type { CacheState, DatabaseState } from '../../diagnostics/status/status.ts';
import { duration } from '../../lib/text.ts';
import { WINDOW_MINUTES } from '../../metrics/recent-latency.ts';
import { COUNT_TO } from '../../metrics/scrape.ts';
import type { Overview } from './overview.ts';
import { REFRESH, STYLE } from './page-assets.ts';

type Html = ReturnType<typeof html>;
type Tone = 'good' | 'bad' | 'plain';

/** @returns the whole document; hono escapes what it is given */
export function dashboardPage(overview: Overview): Html {
  const { readiness, database, cache } = overview;
  const outdated = outdatedNotice(overview);
  const obstacles = [...readiness.reasons, ...signsOfStandstill(overview)];
  const flows = obstacles.length === 0;
  const notices = [
    ...obstacles,
    ...(outdated === null ? [] : [outdated]),
    ...(database?.value.problems ?? []),
    ...(cache?.value.problems ?? []),
  ];
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${flows ? 'flowing' : 'NOT FLOWING'} · Fencepost</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<p class="lost bad">This worker does not answer: what you see is old.</p>
<main class="fencepost">
<header class="${flows ? 'good' : 'bad'}">
<h1>${flows ? 'Invalidations flow' : 'Invalidations do not flow'}</h1>
<p>${roleOf(overview)}</p>
</header>
${[...new Set(notices)].map((notice) => html`<p class="notice bad">${notice}</p>`)}
${readiness.warnings.map((warning) => html`<p class="notice warn">${warning}</p>`)}
<section class="tiles">
${latencyTile(overview)}
${database === null ? tile('Outbox', '?', 'the database has not answered yet', 'bad') : outboxTiles(database.value)}
${queueTile(overview)}
${cache === null ? tile('Redis', '?', 'has not been asked yet', 'plain') : auditTile(cache.value)}
${tile('Upstash commands', overview.commands.toLocaleString('en'), 'sent by this worker since its start', 'plain')}
</section>
${!cache?.value.hitRates?.length ? '' : hitRateTable(cache.value.hitRates, cache.at)}
<footer>
<a href="readyz">readyz</a> <a href="metrics">metrics</a>
<span>Read at ${new Date().toISOString().slice(11, 19)} UTC. The same in a terminal: <code>fencepost status</code>; every precondition: <code>fencepost doctor</code></span>
</footer>
</main>
<script>${REFRESH}</script>
</body>
</html>`;
}

/** While a worker delivers, no row waits so long. */
const LATE_MS = 60_000;

/** Signs that nothing flows although this worker is ready: a standby knows only that its leader lives. */
function signsOfStandstill({ database, cache }: Overview): string[] {
  const signs: string[] = [];
  const oldestMs = database?.value.outbox.oldestMs ?? 0;
  if (oldestMs > LATE_MS) signs.push(`The oldest row of the outbox has waited for ${duration(oldestMs)}.`);
  if (cache?.value.heartbeat === 'missing')
    signs.push('There is no heartbeat in Redis: readers take only young entries.');
  return signs;
}

/** A query takes 1 s at most and is repeated every 3 s. */
const OUTDATED_MS = 10_000;

function outdatedNotice({ database, queue }: Overview): string | null {
  const age = Math.max(...[database, queue].map((last) => (last === null ? 0 : Date.now() - last.at)));
  return age < OUTDATED_MS
    ? null
    : `What the database and the queue say below is up to ${duration(age)} old: they do not answer now.`;
}

function roleOf({ readiness, database }: Overview): string {
  const role = {
    starting: 'This worker is starting',
    leading: 'This worker delivers',
    following: 'This worker stands by',
    contested: 'This worker delivers without the leader lock',
  }[readiness.role];
  const workers = database?.value.workers;
  const running = workers === undefined ? '' : `, ${workers} running`;
  const unfit = database?.value.unfit ?? 0;
  return `${role}${running}${unfit === 0 ? '' : `, ${unfit} of them could not take over`}.`;
}

function latencyTile({ latency }: Overview): Html {
  const name = 'Write to confirmed DEL';
  if (latency === null)
    return tile(name, '–', 'nothing written since this worker started was applied lately', 'plain');
  return tile(
    name,
    duration(latency.medianMs),
    `median of this worker's last ${WINDOW_MINUTES} minutes, waits of min_interval included; 99 % within ${duration(latency.percentile99Ms)}`,
    'plain',
  );
}

function outboxTiles({ leader, contested, outbox, throttled }: DatabaseState): Html {
  const silent = leader !== null && leader.silentMs > ALIVE_MS;
  const isDelivered = leader !== null ? !silent : contested;
  const rows = `${outbox.rows.toLocaleString('en')}${outbox.rows >= COUNT_TO ? ' or more' : ''}`;
  return html`${tile(
    'Outbox',
    outbox.rows === 0 ? 'empty' : rows,
    outbox.rows === 0 ? 'no write waits' : `rows; the oldest is ${duration(outbox.oldestMs)} old`,
    isDelivered ? 'plain' : 'bad',
  )}
${tile(
  'Throttled',
  throttled.waiting.toLocaleString('en'),
  throttled.dueInMs === null
    ? 'targets with a min_interval'
    : `targets with a min_interval; the next in ${duration(throttled.dueInMs)}`,
  'plain',
)}`;
}

function queueTile({ queue, readiness }: Overview): Html {
  if (queue?.value == null) {
    const why =
      readiness.role === 'following' ? "shown on the leader's dashboard" : 'the queue has not answered yet';
    return tile('Dead letters', '–', why, 'plain');
  }
  const { waiting, active, delayed, failed } = queue.value;
  return tile(
    'Dead letters',
    failed === 0 ? 'none' : failed.toLocaleString('en'),
    `${failed === 0 ? '' : 'run them again: fencepost retry. '}Queue: ${waiting} waiting, ${active} active, ${delayed} delayed`,
    failed === 0 ? 'good' : 'bad',
  );
}

function auditTile({ consistency, heartbeat }: CacheState): Html {
  if (consistency === null && heartbeat === null)
    return tile('Consistency', '?', 'unknown: Redis did not answer', 'plain');
  if (consistency === null)
    return tile('Consistency', '–', 'not audited in the last week: fencepost audit', 'plain');
  const { stale, compared, at } = consistency;
  const when = `${duration(Date.now() - Date.parse(at))} ago`;
  return stale.length === 0
    ? tile('Consistency', 'none stale', `${compared} entries compared ${when}`, 'good')
    : tile(
        'Consistency',
        `${stale.length} stale`,
        `of ${compared} entries compared ${when}: fencepost audit names them`,
        'bad',
      );
}

function tile(name: string, value: string, explanation: string, tone: Tone): Html {
  return html`<article class="${tone}"><h2>${name}</h2><p class="value">${value}</p><p>${explanation}</p></article>`;
}

function hitRateTable(rates: readonly HitRate[], at: number): Html {
  return html`<section>
<h2>Hit rates of the last 24 hours</h2>
<table>
<thead><tr><th>type</th><th>reads</th><th colspan="2">hit rate</th><th>target</th></tr></thead>
<tbody>${rates.map(hitRateRow)}</tbody>
</table>
<p>Read ${duration(Date.now() - at)} ago, at most every 30 s.</p>
</section>`;
}

function hitRateRow({ type, reads, hitRate, target }: HitRate): Html {
  const percent = (share: number | null) => (share === null ? '–' : `${(share * 100).toFixed(1)} %`);
  const bar =
    hitRate === null
      ? ''
      : html`<meter min="0" max="1" value="${hitRate}" low="${target ?? 0}">${percent(hitRate)}</meter>`;
  return html`<tr class="${meetsTarget({ hitRate, target }) ? 'plain' : 'bad'}">
<th scope="row">${type}</th><td>${reads.toLocaleString('en')}</td><td>${percent(hitRate)}</td><td>${bar}</td><td>${percent(target)}</td>
</tr>`;
}
