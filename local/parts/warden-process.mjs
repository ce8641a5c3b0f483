/**
 * The warden: a small process that outlives its parent just long enough to clean up after it.
 *
 * The parent tells it over a pipe (one JSON message a line) which processes and paths are its own. The pipe closes when
 * the parent ends, however it ends: normally, by Ctrl-C, by a crash or by `kill -9`. Only then does the warden act: it
 * stops what is still running and removes what is still there. It runs in a session of its own, so that a signal to
 * the parent's process group does not reach it, and it needs nothing but Node, so that it is up within 50 ms.
 *
 * Messages: {"child":pid,"signal":"SIGTERM"}  {"gone":pid}  {"mark":"…"}
 *           {"path":"/…","holding":"…"}  {"pathGone":"/…"}
 * A path with `holding` is a file, removed only while it contains that text: by the time the warden acts, somebody else
 * may have written a new one there.
 * The mark is the value of FENCEPOST_OWNER in the environment of everything the parent starts. On Linux it finds the
 * processes that no message names: one whose parent died between starting it and reporting it, and grandchildren.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** Time for an orderly end before SIGKILL, in milliseconds. */
const PATIENCE_MS = 1_000;

const children = new Map();
const paths = new Map();
let mark = '';

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined);

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const message = JSON.parse(line);
    if (message.child !== undefined) children.set(message.child, message.signal);
    if (message.gone !== undefined) children.delete(message.gone);
    if (message.path !== undefined) paths.set(message.path, message.holding);
    if (message.pathGone !== undefined) paths.delete(message.pathGone);
    if (message.mark !== undefined) mark = message.mark;
  })
  .on('close', cleanUp);

function send(pid, signal) {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Whether it still runs. In a container nobody may collect the exit of orphans: a zombie counts as ended. */
function runs(pid) {
  if (!send(pid, 0)) return false;
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return process.platform !== 'linux';
  }
}

/** Process ids whose environment carries the mark; empty where there is no /proc. */
function marked() {
  if (mark === '') return [];
  const needle = `FENCEPOST_OWNER=${mark}\0`;
  try {
    return readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry))
      .map(Number)
      .filter((pid) => {
        try {
          return (
            pid !== process.pid && `${readFileSync(`/proc/${pid}/environ`, 'latin1')}\0`.includes(needle)
          );
        } catch {
          return false;
        }
      });
  } catch {
    return [];
  }
}

async function cleanUp() {
  for (const pid of marked()) if (!children.has(pid)) children.set(pid, 'SIGTERM');
  for (const [pid, signal] of children) send(pid, signal);
  const deadline = Date.now() + PATIENCE_MS;
  while ([...children.keys()].some(runs) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // Whoever is left, and its whole process group: every child leads one of its own.
  for (const pid of children.keys()) {
    send(-pid, 'SIGKILL');
    send(pid, 'SIGKILL');
  }
  for (const pid of marked()) send(pid, 'SIGKILL');
  for (const [path, holding] of paths) {
    try {
      if (holding !== undefined && !readFileSync(path, 'utf8').includes(holding)) continue;
      rmSync(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    } catch {
      // Somebody else's by now, or already gone: nobody is left to tell.
    }
  }
}
