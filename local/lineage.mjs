/**
 * Whether npm, which started this process, is still there. Nobody tells a script that its npm was killed; and a SIGTERM to
 * npm goes to the shell between (npm runs scripts with `sh -c`, and not every shell replaces itself by its only command),
 * which dies of it and passes nothing on. What can be seen is that this process, or that shell, has another parent then.
 *
 *   watching ── another lineage, seen twice ──▶ SIGTERM to ourselves ──▶ over
 *   watching ── unwatchLineage() ──▶ over
 *
 * The lineage is recorded when this module is loaded, before anything that takes time. npm may have gone before
 * that; then the ancestors are not what npm makes them. A process id says nothing: in a container npm may be 1.
 *
 * Plain JavaScript with Node's own modules only: it runs before anything is installed.
 */
import { readFileSync } from 'node:fs';

const {
  npm_lifecycle_event: lifecycle,
  npm_lifecycle_script: script = '',
  npm_config_user_agent: agent = '',
} = process.env;
const born = lineage();
const bornOrphaned = startedByNpm() && !hasNpmAbove();
let watch;

/** Whether whoever started this process has gone since, or had before it could look. */
export function isOrphaned() {
  return lifecycle !== undefined && (bornOrphaned || lineage() !== born);
}

/**
 * Once orphaned, this process gets a SIGTERM. Seen twice, because a signal to the whole group ends the shell too: it
 * arrives here by itself, and whoever handles it calls `unwatchLineage` lest a second one means "at once".
 */
export function watchLineage() {
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

/** This process is ending already. */
export function unwatchLineage() {
  clearInterval(watch);
}

function lineage() {
  const parent = statusOf(process.ppid);
  return parent?.name === 'sh' ? `${process.ppid} ${parent.parent}` : String(process.ppid);
}

/** By npm itself and for this very script: other package managers look different, and variables are inherited. */
function startedByNpm() {
  return agent.startsWith('npm/') && script.includes('ensure-installed.mjs');
}

/** npm is the parent, or the shell's parent. Its name is "npm start", and was that of Node's main thread before. */
function hasNpmAbove() {
  const parent = statusOf(process.ppid);
  // No /proc: only Linux hands orphans to anybody but process 1, and only in its containers can npm be that.
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
