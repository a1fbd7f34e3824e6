/**
 * The scripts: each one change of the store, whole or not at all. What a job becomes is decided by
 * `Job/Transition.ts` alone; a script applies it if the record is still the one that was read, which fences every
 * write, that of a stale attempt too.
 */
import { script } from "../../Redis.js"

/**
 * Lets a script write though the memory of Redis is full. Redis refuses the first write of a script that could take
 * memory, and none after another write: this one, which removes nothing, is such another. Redis 7 has a flag for it,
 * which earlier ones do not know.
 */
const useReserve = `redis.call('HDEL', KEYS[1], '')`

/** Adds to a field of a hash, which goes away at zero. */
const count = `
local function count(key, field, change)
  if redis.call('HINCRBY', key, field, change) <= 0 then redis.call('HDEL', key, field) end
end`

/** Brings a caller's place in \`heads\` up to date with its ready jobs. */
const head = `
local function head(ready, heads, caller)
  local first = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', heads, first[2], caller) else redis.call('ZREM', heads, caller) end
end`

/** Counts bytes of a caller. Needs \`count\`. */
const weigh = `
local function weigh(bytes, all, caller, change)
  count(bytes, caller, change)
  redis.call('INCRBY', all, change)
end`

/** Saves a job that is ready, and gives its sequence. Needs \`count\`, \`head\` and \`weigh\`. */
const save = `
local function save(id, caller, before, after, input, field, job, counts, index, ready, heads, newest, bytes, all)
  local sequence = redis.call('INCR', newest)
  local size = #before + #after + #input
  redis.call('HSET', job, 'job', before .. string.format('%d', sequence) .. after, 'input', input, 'v', 1, 'bytes', size)
  weigh(bytes, all, caller, size)
  count(counts, field, 1)
  redis.call('ZADD', index, sequence, id)
  redis.call('ZADD', ready, sequence, id)
  head(ready, heads, caller)
  return sequence
end`

/**
 * Saves a job.
 *
 * KEYS: idempotency, job, counts, queued, index, ready, heads, due:deadline, sequence, due:retention, bytes, allbytes
 * ARGV: id, the record before and after its sequence, input, field of `counts`, caller, limit of the resource, limit of
 * the caller or '', deadline or '', whether there is an idempotency key, prefix of job keys, fingerprint, now,
 * milliseconds that the use of a key counts after the end of its job, field of `counts` for those that run, limits in
 * bytes of the caller and of all, or ''
 * Reply: {'created', sequence, how many are queued, how many run} | {'used', record or '' of a job that was removed, id,
 * fingerprint} | {'exists', record} | {'full', 'resource' | 'caller'} | {'large', 'store' | 'caller'}
 */
export const create = script(`${count}${head}${weigh}${save}
local id, caller, now = ARGV[1], ARGV[6], tonumber(ARGV[13])
if ARGV[10] == '1' then
  local use = redis.call('HMGET', KEYS[1], 'id', 'fingerprint', 'endedAt')
  if use[1] then
    local record = redis.call('HGET', ARGV[11] .. use[1], 'job')
    local endedAt = record and redis.call('ZSCORE', KEYS[10], use[1]) or use[3]
    if (record or endedAt) and not (endedAt and now - tonumber(endedAt) >= tonumber(ARGV[14])) then
      return {'used', record or '', use[1], use[2]}
    end
  end
end
if redis.call('EXISTS', KEYS[2]) == 1 then return {'exists', redis.call('HGET', KEYS[2], 'job')} end
if tonumber(redis.call('HGET', KEYS[3], ARGV[5]) or 0) >= tonumber(ARGV[7]) then return {'full', 'resource'} end
if ARGV[8] ~= '' and tonumber(redis.call('HGET', KEYS[4], caller) or 0) >= tonumber(ARGV[8]) then
  return {'full', 'caller'}
end
local size = #ARGV[2] + #ARGV[3] + #ARGV[4]
if ARGV[16] ~= '' and tonumber(redis.call('HGET', KEYS[11], caller) or 0) + size > tonumber(ARGV[16]) then
  return {'large', 'caller'}
end
if ARGV[17] ~= '' and tonumber(redis.call('GET', KEYS[12]) or 0) + size > tonumber(ARGV[17]) then
  return {'large', 'store'}
end
local sequence = save(id, caller, ARGV[2], ARGV[3], ARGV[4], ARGV[5], KEYS[2], KEYS[3], KEYS[5], KEYS[6], KEYS[7], KEYS[9], KEYS[11], KEYS[12])
count(KEYS[4], caller, 1)
if ARGV[9] ~= '' then redis.call('ZADD', KEYS[8], ARGV[9], id) end
if ARGV[10] == '1' then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'id', id, 'fingerprint', ARGV[12], 'at', ARGV[13])
end
local counts = redis.call('HMGET', KEYS[3], ARGV[5], ARGV[15])
return {'created', sequence, counts[1] or '0', counts[2] or '0'}`)

/**
 * Makes a record into the next one, and saves the delivery of a job that ends thereby.
 *
 * KEYS: job, log, counts, queued, index before, index after, ready, heads, running, due:backoff, due:deadline,
 * due:retention, nodes, bytes, allbytes; of the delivery, if there is one: job, index, ready, heads, and sequence
 * ARGV: id, version that was read, record, sequence, caller, field of \`counts\` before, after, change of \`queued\`,
 * '1' if it is ready, the node that changes it if it is running, times of the three due sets or '', channel; of the delivery, or '': id,
 * record before and after its sequence, input, field of \`counts\`; '1' if it may use the reserve; then number and text
 * of each new event
 * Reply: 1, or 0 where the record has changed since, or is no more, or -1 where a node claims it that was taken for dead
 */
export const change = script(`${count}${head}${weigh}${save}
local id = ARGV[1]
if redis.call('HGET', KEYS[1], 'v') ~= ARGV[2] then return 0 end
if ARGV[20] == '1' then ${useReserve} end
local claims = ARGV[10] ~= '' and ARGV[6] ~= ARGV[7]
if claims and redis.call('HEXISTS', KEYS[13], ARGV[10]) == 0 then return -1 end
redis.call('HSET', KEYS[1], 'job', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'v', 1)
if ARGV[6] ~= ARGV[7] then
  redis.call('ZREM', KEYS[5], id)
  redis.call('ZADD', KEYS[6], ARGV[4], id)
  count(KEYS[3], ARGV[7], 1)
  count(KEYS[3], ARGV[6], -1)
end
if ARGV[8] ~= '0' then count(KEYS[4], ARGV[5], ARGV[8]) end
if ARGV[9] == '1' then redis.call('ZADD', KEYS[7], ARGV[4], id) else redis.call('ZREM', KEYS[7], id) end
head(KEYS[7], KEYS[8], ARGV[5])
if claims then redis.call('HSET', KEYS[9], id, ARGV[10]) elseif ARGV[10] == '' then redis.call('HDEL', KEYS[9], id) end
for due = 0, 2 do
  local at = ARGV[11 + due]
  if at ~= '' then redis.call('ZADD', KEYS[10 + due], at, id) else redis.call('ZREM', KEYS[10 + due], id) end
end
if ARGV[15] ~= '' then
  save(ARGV[15], ARGV[5], ARGV[16], ARGV[17], ARGV[18], ARGV[19], KEYS[16], KEYS[3], KEYS[17], KEYS[18], KEYS[19], KEYS[20], KEYS[14], KEYS[15])
end
local size = 0
for at = 21, #ARGV, 2 do
  redis.call('XADD', KEYS[2], ARGV[at] .. '-0', 'event', ARGV[at + 1])
  size = size + #ARGV[at + 1]
  redis.call('PUBLISH', ARGV[14], id .. ' ' .. ARGV[at])
end
if size > 0 and redis.call('HEXISTS', KEYS[1], 'bytes') == 1 then
  redis.call('HINCRBY', KEYS[1], 'bytes', size)
  weigh(KEYS[14], KEYS[15], ARGV[5], size)
end
return 1`)

/**
 * Removes a job that has ended, and all that belongs to it, but for the use of its idempotency key.
 *
 * KEYS: job, log, counts, index, due:retention, idempotency, bytes, allbytes
 * ARGV: id, version that was read, field of \`counts\`, channel, whether it has an idempotency key, when it ended,
 * milliseconds that the use of the key still counts, caller
 * Reply: 1, or 0 where the record has changed since, or is no more
 */
export const remove = script(`${count}${weigh}
local id = ARGV[1]
if redis.call('HGET', KEYS[1], 'v') ~= ARGV[2] then return 0 end
local size = tonumber(redis.call('HGET', KEYS[1], 'bytes') or 0)
redis.call('DEL', KEYS[1], KEYS[2])
if size > 0 then weigh(KEYS[7], KEYS[8], ARGV[8], -size) end
count(KEYS[3], ARGV[3], -1)
redis.call('ZREM', KEYS[4], id)
redis.call('ZREM', KEYS[5], id)
if ARGV[5] == '1' and redis.call('HGET', KEYS[6], 'id') == id then
  if tonumber(ARGV[7]) > 0 then
    redis.call('HSET', KEYS[6], 'endedAt', ARGV[6])
    redis.call('PEXPIRE', KEYS[6], ARGV[7])
  else
    redis.call('DEL', KEYS[6])
  end
end
redis.call('PUBLISH', ARGV[4], id)
return 1`)

/**
 * Reads several indices at one moment. A transaction would be refused where the memory of Redis is full.
 *
 * KEYS: indices · ARGV: sequence that all are below, how many of each
 * Reply: of each index ids and sequences
 */
export const list = script(`
local found = {}
for at, index in ipairs(KEYS) do
  found[at] = redis.call('ZREVRANGEBYSCORE', index, '(' .. ARGV[1], '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
end
return found`)

/**
 * Joins a node.
 *
 * KEYS: nodes · ARGV: node, what it says · Reply: 1
 */
export const enter = script(`
${useReserve}
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`)

/**
 * Says that a node drains.
 *
 * KEYS: nodes, drained:<node> · ARGV: milliseconds that it is known · Reply: 1
 */
export const drain = script(`
${useReserve}
redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
return 1`)

/**
 * Forgets a queued job that Redis has thrown away, unless it is there.
 *
 * KEYS: ready, heads, job, index, counts, queued · ARGV: id, caller, field of \`counts\`, '1' if \`queued\` counts it
 * Reply: 1, or 0 where it is there, or was forgotten before
 */
export const forget = script(`${count}${head}
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('ZREM', KEYS[4], ARGV[1])
local had = redis.call('ZREM', KEYS[1], ARGV[1])
if had == 1 and redis.call('HEXISTS', KEYS[5], ARGV[3]) == 1 then count(KEYS[5], ARGV[3], -1) end
if had == 1 and ARGV[4] == '1' and redis.call('HEXISTS', KEYS[6], ARGV[2]) == 1 then count(KEYS[6], ARGV[2], -1) end
head(KEYS[1], KEYS[2], ARGV[2])
return had`)

/**
 * Says that a node lives, and takes or renews its turn as the keeper.
 *
 * KEYS: nodes, keeper · ARGV: node, what it says, milliseconds that a keeper counts
 * Reply: 'keeper' | 'node' | 'lost' where it was taken for dead, and nothing was changed
 */
export const beat = script(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 'lost' end
${useReserve}
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local keeper = redis.call('GET', KEYS[2])
if keeper and keeper ~= ARGV[1] then return 'node' end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return 'keeper'`)

/**
 * Takes a node for dead, unless it has said something since.
 *
 * KEYS: nodes · ARGV: node, what it said last · Reply: 1, or 0 where that is not so any more
 */
export const bury = script(`
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])`)

/**
 * Ends a node that leaves.
 *
 * KEYS: nodes, keeper · ARGV: node · Reply: 1
 */
export const leave = script(`
redis.call('HDEL', KEYS[1], ARGV[1])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1`)
