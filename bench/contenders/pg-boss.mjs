/** Fastify + pg-boss: the job is saved in PostgreSQL, and fetched from there, at the shortest polling that it takes. */
import PgBoss from "pg-boss"
import { serve } from "./fastify.mjs"
import { permits, work } from "./work.mjs"

const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, max: 10 })
boss.on("error", console.error)
await boss.start()
await boss.createQueue("jobs")
for (let worker = 0; worker < permits; worker++) {
  await boss.work("jobs", { batchSize: 1, pollingIntervalSeconds: 0.5 }, async ([job]) => work(job.data.prompt))
}

await serve((prompt) => boss.send("jobs", { prompt }))
