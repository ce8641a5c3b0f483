/**
 * Which commands Upstash serves over REST, and its words for the others. The list is the one of its documentation
 * (docs/redis/overall/rediscompatibility) plus INFO, which the REST page itself shows, less those that only make sense on
 * a connection: blocking, authentication, transactions (they have /multi-exec) and subscriptions. So code that would be
 * refused in production is refused here.
 */

/** A command with its arguments; bytes stay bytes. */
export type RedisCommand = readonly (string | Buffer)[];

const served = new Set(
  [
    'append decr decrby get getdel getex getrange getset incr incrby incrbyfloat mget mset msetnx psetex set setex setnx',
    'setrange strlen bitcount bitfield bitfield_ro bitop bitpos getbit setbit',
    'hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hscan hset hsetnx hstrlen hrandfield hvals',
    'lindex linsert llen lmove lpop lpos lpush lpushx lrange lrem lset ltrim rpop rpoplpush rpush rpushx',
    'sadd scard sdiff sdiffstore sinter sinterstore sismember smembers smismember smove spop srandmember srem sscan',
    'sunion sunionstore zadd zcard zcount zdiff zdiffstore zincrby zinter zinterstore zlexcount zmscore zpopmax zpopmin',
    'zrandmember zrange zrangestore zrangebylex zrangebyscore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore',
    'zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore',
    'geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch',
    'geosearchstore pfadd pfcount pfmerge eval evalsha script publish pubsub',
    'copy del exists expire expireat keys persist pexpire pexpireat pttl randomkey rename renamenx scan touch ttl type',
    'unlink echo ping dbsize flushall flushdb time info',
    'xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xtrim',
  ]
    .join(' ')
    .split(' '),
);

/** Upstash's refusal of this command, or undefined when it may run. */
export function refusalOf(command: RedisCommand): string | undefined {
  const name = String(command[0]);
  const blocks = /^xread/i.test(name) && command.some((argument) => /^block$/i.test(String(argument)));
  if (served.has(name.toLowerCase()) && !blocks) return undefined;
  return `ERR Command is not available: '${name.toUpperCase()}'. See https://upstash.com/docs/redis/overall/rediscompatibility for details`;
}
