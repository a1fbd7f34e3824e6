/** Fastify + p-limit + ioredis: the job is saved in Redis and waits in the process; its result goes to Redis. */
import { randomUUID } from "node:crypto"
import { Redis } from "ioredis"
import pLimit from "p-limit"
import { serve } from "./fastify.mjs"
import { permits, work } from "./work.mjs"

const redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true })
const limit = pLimit(permits)

await serve(async (prompt) => {
  const id = randomUUID()
  await redis.hset(`job:${id}`, "status", "queued", "prompt", prompt)
  limit(() => work(prompt)).then(
    (output) => redis.hset(`job:${id}`, "status", "succeeded", "output", output),
    (error) => redis.hset(`job:${id}`, "status", "failed", "error", String(error)),
  )
  return id
})
