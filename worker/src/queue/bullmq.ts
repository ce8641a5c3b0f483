/** BullMQ's two classes as Fencepost uses them; what is common to all jobs is said here. */
import {
  type ConnectionOptions,
  type IQueueBackend,
  type JobProgress,
  type JobsOptions,
  type Processor,
  Queue,
  Worker,
} from 'bullmq';
import type { Backend } from './backend.ts';
import { QUEUE_NAME, RETRY_ATTEMPTS, RETRY_FIRST_MS } from './jobs.ts';

const OPTIONS = {
  // Finished jobs leave nothing; failed ones stay until they are retried or pruned.
  removeOnComplete: true,
  removeOnFail: false,
  attempts: RETRY_ATTEMPTS,
  backoff: { type: 'exponential', delay: RETRY_FIRST_MS, jitter: 0.25 },
} as const satisfies JobsOptions;

export type JobQueue = ReturnType<typeof createJobQueue>;
export type JobWorker = ReturnType<typeof createJobWorker>;

// The connection is the backend's affair; BullMQ's options want one all the same.
export function createJobQueue(backend: Backend) {
  return new Queue<unknown, unknown, string, unknown, unknown, string, IQueueBackend, ConnectionOptions>(
    QUEUE_NAME,
    { connection: {}, defaultJobOptions: OPTIONS },
    backend.factory,
  );
}

export function createJobWorker(backend: Backend, perform: Processor<unknown, unknown, string>) {
  return new Worker<unknown, unknown, string, IQueueBackend, JobProgress, ConnectionOptions>(
    QUEUE_NAME,
    perform,
    { connection: {}, concurrency: 4, maxStalledCount: RETRY_ATTEMPTS, name: 'worker' },
    backend.factory,
  );
}
