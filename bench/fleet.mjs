/**
 * How far a fleet goes: `node bench/fleet.mjs [1,2,4]`, processes of Offload on one Redis and one machine. Jobs: 600 of
 * them, whose children do nothing, within a ceiling of 16. Events: 16 jobs that each say a line every 10 ms, each read
 * by ten readers at any of the processes.
 */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { get } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { contenders } from "./contenders.mjs"
import { buildChild, Children } from "./machine/child.mjs"
import { submit } from "./machine/load.mjs"
import { startRedis } from "./machine/redis.mjs"
import { freePort, sleep, until } from "./machine/wait.mjs"
import { table } from "./table.mjs"

const permits = 16
const amount = 600
const readersPerJob = 10
const seconds = 10

const speaker = [
  "/bin/sh",
  "-c",
  "cat >/dev/null; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); sleep 0.01; done",
]

const startNodes = async (count, argv, folder) => {
  const redis = await startRedis(join(folder, "redis"))
  const nodes = []
  for (let at = 0; at < count; at++) {
    const port = await freePort()
    const child = spawn(process.execPath, [contenders["offload-redis"].argv[1]], {
      stdio: "ignore",
      detached: true,
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        PORT: String(port),
        REDIS_URL: redis.url,
        OFFLOAD_DATA: join(folder, `data-${at}`),
        OFFLOAD_LLM: "command",
        OFFLOAD_LLM_COMMAND: JSON.stringify(argv),
        OFFLOAD_PERMITS: String(permits),
        OFFLOAD_MAX_STREAMS: "10000",
      },
    })
    nodes.push({ child, url: `http://127.0.0.1:${port}` })
  }
  for (const { url } of nodes) {
    await until(() =>
      fetch(`${url}/health/ready`).then(
        ({ ok }) => ok,
        () => false,
      ),
    )
  }
  const stop = async () => {
    for (const { child } of nodes) {
      const gone = new Promise((resolve) => child.once("exit", resolve))
      process.kill(-child.pid, "SIGKILL")
      await gone
    }
    redis.stop()
  }
  return { nodes, stop }
}

const within = async (run) => {
  const folder = mkdtempSync(join(tmpdir(), "offload-bench-"))
  try {
    return await run(folder)
  } finally {
    // What was killed may still write for a moment.
    await sleep(500)
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

const jobsASecond = (count) =>
  within(async (folder) => {
    const children = new Children(buildChild(folder), folder, 0)
    children.hold()
    const { nodes, stop } = await startNodes(count, children.argv, folder)
    try {
      await Promise.all(nodes.map(({ url }) => submit(url, { connections: 4, amount: amount / count })))
      await until(() => children.times().starts.length >= permits)
      const began = performance.now()
      children.release()
      await until(() => children.times().ends.length >= amount, undefined, { seconds: 300, every: 50 })
      return amount / ((performance.now() - began) / 1000)
    } finally {
      await stop()
    }
  })

const eventsASecond = (count) =>
  within(async (folder) => {
    const { nodes, stop } = await startNodes(count, speaker, folder)
    try {
      let events = 0
      const of = (at) => nodes[at % count].url
      for (let at = 0; at < permits; at++) {
        const answer = await fetch(`${of(at)}/jobs`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: '{"prompt":"speak"}',
        })
        for (let reader = 0; reader < readersPerJob; reader++) {
          get(`${of(at + reader)}${answer.headers.get("location")}/events`, (response) => {
            response.setEncoding("utf8").on("data", (text) => {
              events += text.split("event: output").length - 1
            })
            response.on("error", () => {})
          }).on("error", () => {})
        }
      }
      await sleep(2000)
      const before = events
      await sleep(seconds * 1000)
      return (events - before) / seconds
    } finally {
      await stop()
    }
  })

const results = {}
for (const count of (process.argv[2] ?? "1,2,4").split(",").map(Number)) {
  results[count] = [{ jobs: await jobsASecond(count), events: await eventsASecond(count) }]
}
console.log(
  table(
    {
      title: "A fleet on one machine",
      columns: [
        { key: "jobs", title: "jobs a second" },
        { key: "events", title: "events told a second" },
      ],
    },
    results,
    Object.fromEntries(Object.keys(results).map((count) => [count, `${count} processes`])),
  ),
)
process.exit(0)
