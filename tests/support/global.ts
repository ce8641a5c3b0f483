/**
 * Runs once in vitest's main process: offers the test files one Postgres, which starts when the first of them asks for it.
 * Several runs on one machine are independent: each has its own server, port and temporary folder. The reaper removes them even
 * when a run is killed.
 */

import type { TestProject } from 'vitest/node';
import { startHttp } from '../../local/parts/http.ts';
import type { Part } from '../../local/parts/part.ts';
import { dismissReaper } from '../../local/parts/reaper.ts';
import { startTemplate } from './template.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Where a test process asks for the URL of the server with the template. */
    fencepostDatabases: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  let template: Promise<Part & { url: string }> | undefined;
  const server = await startHttp({
    name: 'test databases',
    listener: (_incoming, outgoing) => {
      template ??= startTemplate();
      template.then(
        ({ url }) => outgoing.end(url),
        (error: unknown) => {
          outgoing.statusCode = 500;
          outgoing.end(error instanceof Error ? error.message : String(error));
        },
      );
    },
  });
  project.provide('fencepostDatabases', server.url);
  return async () => {
    await server.stop();
    await template?.then(
      (part) => part.stop(),
      () => undefined,
    );
    await dismissReaper();
  };
}
