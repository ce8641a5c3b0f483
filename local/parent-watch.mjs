/**
 * Ends this process when the npm that started it is gone. Nothing else would: npm runs scripts through `sh -c`, and a SIGTERM
 * to npm ends that shell without reaching the script. What the script can see is that its parent, or the shell's parent, changed.
 *
 *   watching ── another parent, seen twice ──▶ SIGTERM to this process
 *   watching ── unwatchParent() ──▶ nothing more
 *
 * The parents are recorded when this module is loaded. npm may have ended before that; then the parent is not an npm process.
 * The process id alone proves nothing: in a container npm itself may be process 1.
 *
 * Plain JavaScript with Node's own modules only: it runs before anything is installed.
 */
import { readFileSync } from 'node:fs';

const {
  npm_lifecycle_event: lifecycle,
  npm_lifecycle_script: script = '',
  npm_config_user_agent: agent = '',
} = process.env;
const initialParents = parents();
const startedOrphaned = startedByNpm() && !hasNpmAbove();
let watch;

/** Whether the npm that started this process has ended. */
export function isOrphaned() {
  return lifecycle !== undefined && (startedOrphaned || parents() !== initialParents);
}

/**
 * Sends this process a SIGTERM once it is orphaned. It waits for a second look, because a signal to the whole group ends the
 * shell too and reaches this process by itself: its handler calls `unwatchParent`, or a second signal would mean "at once".
 */
export function watchParent() {
  if (lifecycle === undefined) return;
  let seen = 0;
  watch = setInterval(() => {
    seen = isOrphaned() ? seen + 1 : 0;
    if (seen < 2) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGTERM');
  }, 200);
  watch.unref();
}

/** Stops watching: this process is ending already. */
export function unwatchParent() {
  clearInterval(watch);
}

function parents() {
  const parent = statusOf(process.ppid);
  return parent?.name === 'sh' ? `${process.ppid} ${parent.parent}` : String(process.ppid);
}

/** Whether npm started this script: other package managers leave other traces, and a child inherits the variables. */
function startedByNpm() {
  return agent.startsWith('npm/') && script.includes('ensure-installed.mjs');
}

/** Whether npm is the parent or the shell's parent. Its process is called "npm start", and "node" or "MainThread" at first. */
function hasNpmAbove() {
  const parent = statusOf(process.ppid);
  // Without /proc (macOS, Windows): orphans go to process 1, and npm is never process 1 there.
  if (parent === undefined) return process.platform === 'linux' || process.ppid !== 1;
  return [parent, statusOf(parent.parent)].some((status) =>
    /^(npm|node|MainThread)/.test(status?.name ?? ''),
  );
}

/** Name and parent of a process; undefined where there is no /proc. */
function statusOf(pid) {
  try {
    const [, name, parent] = /^\d+ \((.*)\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
    return parent === undefined ? undefined : { name, parent };
  } catch {
    return undefined;
  }
}
