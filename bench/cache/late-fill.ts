/**
 * The late fill, with other caches and with this module. A reader loads the old row, the row changes, the key is deleted and the
 * delete acknowledged; only then does the reader store what it loaded. What does the next reader get?
 *
 *     npm install --prefix bench/cache && npx tsx bench/cache/late-fill.ts
 *
 * One process, and each cache's own way to delete: the case most favourable to it.
 */
import { startGateway } from '../../local/gateway/gateway.ts';
import { startRedis } from '../../local/parts/redis.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';
import { allPeers, type Peer } from './peers.ts';

const ROUNDS = 100;

/** Rounds in which a reader that started after the acknowledged invalidation got the old row. */
async function staleRounds(peer: Peer): Promise<number> {
  let stale = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const key = `workflow:${round}:definition`;
    let row = 'old';
    let answer: () => void = () => {};
    let begun: () => void = () => {};
    const database = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const loading = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const early = peer.getOrSet(key, async () => {
      const seen = row;
      begun();
      await database;
      return seen;
    });
    await loading;
    row = 'new';
    await peer.invalidate(key);
    answer();
    await early;
    if ((await peer.getOrSet(key, async () => row)) === 'old') stale++;
  }
  return stale;
}

const redis = await startRedis();
const gateway = await startGateway({ redisUrl: redis.url, token: 'bench-token' });
const headers = { authorization: `Bearer ${gateway.token}` };
await fetch(gateway.url, {
  method: 'POST',
  headers,
  body: JSON.stringify(['MSET', EPOCH_KEY, 'epoch', HEARTBEAT_KEY, 'epoch']),
});
const cache = createCache({ url: gateway.url, token: gateway.token });
const fencepost: Peer = {
  name: 'Fencepost cache.ts',
  getOrSet: (key, load) => cache.getOrSet(key, load),
  invalidate: async (key) => void (await cache.del(key)),
};

console.log(`| cache | stale answers after an acknowledged invalidation, of ${ROUNDS} |`);
console.log('|---|---|');
for (const peer of [...(await allPeers()), fencepost]) {
  console.log(`| ${peer.name} | ${await staleRounds(peer)} |`);
}
await gateway.stop();
await redis.stop();
process.exit(0);
