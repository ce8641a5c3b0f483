import { EventEmitter } from 'node:events';
import { createNodeRedisClient } from 'bullmq';
import { describe, expect, it } from 'vitest';
import { outliveListeners } from './backend.ts';

/** As much of a Redis client as BullMQ's adapter touches before the first command. */
class Client extends EventEmitter {
  readonly isOpen = true;
  readonly isReady = true;
  readonly copies: Client[] = [];
  duplicate(): Client {
    const copy = new Client();
    this.copies.push(copy);
    return copy;
  }
}

describe('an error of a client that BullMQ listens to no longer', () => {
  it('ends nothing, whether it is the client or a copy of it', () => {
    const client = new Client();
    outliveListeners(createNodeRedisClient(client)).duplicate().duplicate();
    const [copy] = client.copies;
    for (const each of [client, copy, copy?.copies[0]])
      expect(each?.emit('error', new Error('read ECONNRESET'))).toBe(true);
  });

  it('would end the process without the listener', () => {
    const client = new Client();
    createNodeRedisClient(client);
    expect(() => client.emit('error', new Error('read ECONNRESET'))).toThrow('read ECONNRESET');
  });
});
