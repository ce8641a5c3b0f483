/**
 * The reaper: a small process that outlives its parent and cleans up after it.
 *
 * The parent writes to it, one JSON message a line, which processes and paths it owns. The pipe closes when the parent ends:
 * normally, by Ctrl-C, by a crash or by `kill -9`. Then the reaper stops the processes that still run and removes the paths
 * that still exist. It has a session of its own, so a signal to the parent's process group does not reach it. It imports nothing
 * but Node, so it is ready within 50 ms.
 *
 * Messages: {"child":pid,"signal":"SIGTERM"}  {"gone":pid}  {"mark":"…"}
 *           {"path":"/…","holding":"…"}  {"pathGone":"/…"}
 * A path with `holding` is a file. It is removed only if it contains that text: another process may have written a new one.
 * The mark is the value of FENCEPOST_OWNER in the environment of every child. On Linux it finds the processes that no message
 * named: grandchildren, and a child whose parent died between starting and reporting it.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** Time for an orderly end before SIGKILL, in milliseconds. */
const STOP_WITHIN_MS = 1_000;

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

/** Whether it still runs. A zombie counts as ended: in a container it may never be collected. */
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
  const deadline = Date.now() + STOP_WITHIN_MS;
  while ([...children.keys()].some(runs) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // What is left, with its process group: every child leads one.
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
      // Gone already, or another process's by now.
    }
  }
}
