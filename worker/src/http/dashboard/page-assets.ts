/** The dashboard's style and script, and the policy that lets the browser run nothing else. */
import { createHash } from 'node:crypto';
import { raw } from 'hono/html';

const style = `
:root { color-scheme: light dark; --good: #18794e; --bad: #c62a2f; --warn: #946800; --line: color-mix(in srgb, currentColor 15%, transparent) }
@media (prefers-color-scheme: dark) { :root { --good: #4cc38a; --bad: #ff6369; --warn: #f0c000 } }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0; padding: 1.5rem }
main { max-width: 60rem; margin: auto }
h1, h2, p { margin: 0 }
h2 { font-size: 0.9rem; font-weight: 600 }
p, footer, th { font-size: 0.9rem }
header, .notice, .lost { border-left: 0.4rem solid; padding: 0.6rem 1rem; margin-bottom: 1rem }
header.good, .good .value { border-color: var(--good); color: var(--good) }
header.bad, .notice.bad, .lost, .bad .value, tr.bad td { border-color: var(--bad); color: var(--bad) }
.notice.warn { border-color: var(--warn); color: var(--warn) }
header p { color: CanvasText }
.lost { display: none }
.is-lost .lost { display: block }
.is-lost section, .is-lost header { opacity: 0.4 }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; margin-bottom: 2rem }
article { border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.8rem 1rem }
.value { font-size: 1.6rem; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 }
th, td { text-align: right; padding: 0.35rem 0.6rem; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums }
th:first-child { text-align: left }
th[colspan] { text-align: left }
td:nth-child(4) { width: 40% }
meter { width: 100%; min-width: 6rem }
footer { margin-top: 2rem; border-top: 1px solid var(--line); padding-top: 0.6rem }
footer a { margin-right: 0.8rem; color: inherit }
`;

// Every 5 s while the page is visible. When the worker does not answer, the page stays and is marked.
const refresh = `
setInterval(async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const next = page.querySelector('main.fencepost');
    if (next === null) throw new Error('not this page');
    document.title = page.title;
    document.querySelector('main').replaceWith(next);
    document.body.classList.remove('is-lost');
  } catch {
    document.title = 'NO ANSWER · Fencepost';
    document.body.classList.add('is-lost');
  }
}, 5000);
`;

export const STYLE = raw(style);
export const REFRESH = raw(refresh);

const hashOf = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

export const PAGE_HEADERS = {
  'content-security-policy': [
    "default-src 'none'",
    `style-src ${hashOf(style)}`,
    `script-src ${hashOf(refresh)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'cache-control': 'no-store',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
} as const;
