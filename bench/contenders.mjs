/** Who is measured: how each is started, what it needs, and which measures it can take part in. */
import { spawnSync } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { whyNoPostgres } from "./machine/postgres.mjs"
import { hasRedis } from "./machine/redis.mjs"

const path = (name) => fileURLToPath(new URL(name, import.meta.url))
const node = (name) => [process.execPath, path(`./contenders/${name}.mjs`)]

const service = path("../dist/bundle/main.js")

const offload = ({ children, folder }) => ({
  OFFLOAD_DATA: `${folder}/data`,
  OFFLOAD_LLM: "command",
  OFFLOAD_LLM_COMMAND: JSON.stringify(children.argv),
  OFFLOAD_MAX_QUEUED: "10000000",
  OFFLOAD_MAX_STREAMS: "100000",
})

const child = ({ children }) => ({ CHILD: JSON.stringify(children.argv) })

/** Of the Pythons of this machine, the first that has the packages; `null` without one. */
const python =
  ["python3", "/usr/bin/python3"].find(
    (command) => spawnSync(command, ["-c", "import fastapi, uvicorn, redis.asyncio"]).status === 0,
  ) ?? null

const whyNoRedis = () => (hasRedis ? null : "no redis-server on this machine")
const whyNoService = () => (existsSync(service) ? null : "the service is not built: npm run build")

/**
 * `keeps`: the database beside the process. `jobs`: it runs jobs. `recovers`: after a kill its waiting jobs go on.
 * `isNode`: its event loop can be measured. `why`: what is missing on this machine.
 */
export const contenders = {
  offload: {
    title: "Offload (embedded)",
    argv: [process.execPath, service],
    env: offload,
    keeps: "none",
    jobs: true,
    recovers: true,
    isNode: true,
    why: whyNoService,
  },
  "offload-redis": {
    title: "Offload (Redis)",
    argv: [process.execPath, service],
    env: offload,
    keeps: "redis",
    jobs: true,
    recovers: true,
    isNode: true,
    why: () => whyNoService() ?? whyNoRedis(),
  },
  bullmq: {
    title: "Fastify + BullMQ",
    argv: node("bullmq"),
    env: child,
    keeps: "redis",
    jobs: true,
    recovers: true,
    isNode: true,
    why: whyNoRedis,
  },
  "p-limit": {
    title: "Fastify + p-limit + ioredis",
    argv: node("p-limit"),
    env: child,
    keeps: "redis",
    jobs: true,
    recovers: false,
    isNode: true,
    why: whyNoRedis,
  },
  "pg-boss": {
    title: "Fastify + pg-boss",
    argv: node("pg-boss"),
    env: child,
    keeps: "postgres",
    jobs: true,
    recovers: true,
    isNode: true,
    why: whyNoPostgres,
  },
  fastapi: {
    title: "FastAPI + threads + Redis",
    argv: [python, path("./contenders/thread_pool.py")],
    env: child,
    keeps: "redis",
    jobs: true,
    recovers: false,
    isNode: false,
    why: () => whyNoRedis() ?? (python === null ? "no Python with fastapi, uvicorn and redis" : null),
  },
  "node-http": {
    title: "limit: node:http + Redis",
    argv: node("node-http"),
    env: () => ({}),
    keeps: "redis",
    jobs: false,
    recovers: false,
    isNode: true,
    why: whyNoRedis,
  },
  spawn: {
    title: "limit: spawn, two at a time",
    argv: node("spawn"),
    env: child,
    keeps: "none",
    jobs: false,
    recovers: false,
    isNode: true,
    why: () => null,
  },
}
