/** The load generator: autocannon, in a process of its own, so that what measures does not slow it down. */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import autocannon from "autocannon"
import { percentile } from "../stats.mjs"

const self = fileURLToPath(import.meta.url)

/** A prompt of a usual length. */
const prompt = "Say in three sentences why the sky is blue. ".repeat(8)

const submission = {
  path: "/jobs",
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ prompt }),
}

/**
 * Submits jobs, for `seconds` or until `amount` are answered, over so many connections. Answers the rate, the latency
 * in milliseconds, how many were accepted and how many were answered anything else or not at all.
 */
export const submit = (url, options) => load({ url, ...submission, expected: 202, ...options })

/** Asks for `path` at a steady rate. */
export const get = (url, path, options) => load({ url, path, method: "GET", expected: 200, ...options })

const load = (options) =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [self, JSON.stringify(options)], { stdio: ["ignore", "pipe", "inherit"] })
    let text = ""
    child.stdout.on("data", (chunk) => {
      text += chunk
    })
    child.on("error", reject)
    child.on("close", (code) =>
      code === 0 ? resolve(JSON.parse(text)) : reject(new Error("the load generator failed")),
    )
  })

const run = async ({ url, path, connections, seconds, amount, rate, expected, ...request }) => {
  const latencies = []
  let refused = 0
  const instance = autocannon({
    ...request,
    url: `${url}${path}`,
    connections: Math.min(connections, amount ?? connections),
    ...(amount === undefined ? { duration: seconds } : { amount }),
    ...(rate === undefined ? {} : { overallRate: rate }),
    timeout: 60,
  })
  instance.on("response", (_, status, __, millis) => {
    if (status === expected) latencies.push(millis)
    else refused++
  })
  const { errors, finish, start } = await instance
  latencies.sort((a, b) => a - b)
  return {
    accepted: latencies.length,
    refused: refused + errors,
    rate: latencies.length / ((finish - start) / 1000),
    p50: percentile(latencies, 50),
    p99: percentile(latencies, 99),
    max: latencies.at(-1) ?? 0,
  }
}

if (process.argv[1] === self) console.log(JSON.stringify(await run(JSON.parse(process.argv[2]))))
