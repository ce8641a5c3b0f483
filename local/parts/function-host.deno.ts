/**
 * Runs one edge function under Deno (not Node): `deno run … function-host.deno.ts file:///…/index.ts`. What the platform
 * provides around a function is here: `EdgeRuntime.waitUntil`, a port, and an end that waits for background work.
 */

const pending = new Set<Promise<unknown>>();

Object.defineProperty(globalThis, 'EdgeRuntime', {
  value: {
    /** As on Supabase: work that goes on after the answer. A failure is logged, and never ends the function. */
    waitUntil(work: Promise<unknown>): void {
      const guarded = Promise.resolve(work)
        .catch((error) => console.error('background work failed:', error))
        .finally(() => pending.delete(guarded));
      pending.add(guarded);
    },
  },
});

const [entrypoint] = Deno.args;
if (entrypoint === undefined) throw new Error('usage: function-host.deno.ts ENTRYPOINT');
const { default: exported } = await import(entrypoint);
if (typeof exported?.fetch !== 'function') {
  throw new Error('the function has no `export default { fetch }`');
}

const server = Deno.serve(
  {
    hostname: '127.0.0.1',
    port: 0,
    onListen: ({ port }: { port: number }) => console.log(`function ready on ${port}`),
    onError: (error: unknown) => {
      console.error('uncaught:', error);
      return Response.json(
        { code: 'WORKER_ERROR', message: 'Function exited due to an error' },
        { status: 500 },
      );
    },
  },
  (request: Request) => exported.fetch(request),
);

Deno.addSignalListener('SIGTERM', async () => {
  await server.shutdown();
  await Promise.allSettled(pending);
  Deno.exit(0);
});
