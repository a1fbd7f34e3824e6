/** A limit: a bare `node:http` handler with one pipelined write to Redis. It runs no job. */
import { randomUUID } from "node:crypto"
import { createServer } from "node:http"
import { Redis } from "ioredis"

const redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true })

const answer = (response, status, body) =>
  response.writeHead(status, { "content-type": "application/json", "content-length": body.length }).end(body)

createServer((request, response) => {
  if (request.method !== "POST") return answer(response, 200, '{"status":"live"}')
  let text = ""
  request.on("data", (chunk) => {
    text += chunk
  })
  request.on("end", async () => {
    const { prompt } = JSON.parse(text)
    const id = randomUUID()
    await redis.set(`job:${id}`, prompt)
    answer(response, 202, JSON.stringify({ id, status: "queued" }))
  })
}).listen(Number(process.env.PORT), "127.0.0.1")
