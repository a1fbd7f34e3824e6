/** Fastify + BullMQ: the job is saved by `queue.add`, and done by a worker in the same process. */
import { Queue, Worker } from "bullmq"
import { Redis } from "ioredis"
import { serve } from "./fastify.mjs"
import { permits, work } from "./work.mjs"

const connect = () => new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null, enableAutoPipelining: true })

const queue = new Queue("jobs", { connection: connect() })
new Worker("jobs", ({ data }) => work(data.prompt), { connection: connect(), concurrency: permits })

await serve(async (prompt) => (await queue.add("job", { prompt }, { removeOnComplete: { age: 3600 } })).id)
