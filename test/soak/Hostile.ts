/** Callers that mean no good: what each of them does is tried again and again, beside the work of a careful one. */
import { connect } from "node:net"
import { type Chance, sleep } from "../chaos/Chance.js"
import type { Service } from "../e2e/Service.js"
import { as, headersOf } from "./Caller.js"

const headers = headersOf("hostile")
const head = (method: string, path: string, more = ""): string =>
  `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: ${headers.authorization}\r\n${more}`

const megabyte = 1_000_000

/** Bodies that cost more to refuse than to send. */
const bodies: ReadonlyArray<() => string> = [
  () => `{"prompt":"x",${Array.from({ length: 80_000 }, (_, n) => `"${n}":0`).join(",")}}`,
  () => `{"prompt":${"[".repeat(450_000)}${"]".repeat(450_000)}}`,
  () => `{"prompt":"${"x".repeat(megabyte)}"`,
  () => `{"prompt":"x","metadata":{${Array.from({ length: 60_000 }, (_, n) => `"k${n}":"v"`).join(",")}}}`,
  () => `{"prompt":"x","timeoutSeconds":1e400,"maxAttempts":-1,"webhook":"https://nowhere.invalid/"}`,
]

/** Writes to a connection of its own, reads nothing, and is gone after a while. */
const write = async (node: Service, text: string, millis: number): Promise<void> => {
  const socket = connect(Number(new URL(node.url).port), "127.0.0.1")
  socket.on("error", () => {})
  socket.pause()
  socket.write(text)
  await sleep(millis)
  socket.destroy()
}

/** Jobs that go wrong: each in its own way. */
const jobs: ReadonlyArray<{ readonly work: object; readonly more: object }> = [
  { work: { text: "no", exit: 3 }, more: {} },
  { work: { until: "/nowhere" }, more: { timeoutSeconds: 1 } },
  { work: { text: "left behind", tree: "child daemon stubborn" }, more: { timeoutSeconds: 2 } },
  { work: { text: "flood ".repeat(50_000), chunks: 40 }, more: {} },
]

/** What goes on until it is told to end; answers what was answered that must not be. */
export const torment = (
  node: () => Service,
  chance: Chance,
  foreign: () => string | undefined,
): (() => Promise<ReadonlyArray<string>>) => {
  const problems: Array<string> = []
  let isOver = false

  const others = async (): Promise<void> => {
    const id = foreign()
    if (id === undefined) return
    const caller = as("hostile", node())
    for (const [method, path] of [
      ["GET", ""],
      ["POST", "/cancel"],
      ["POST", "/retry"],
      ["DELETE", ""],
    ] as const) {
      const { status } = await caller.call(method, `/jobs/${id}${path}`)
      // Full, or without its store for a moment: it may say so.
      if (![404, 429, 503].includes(status)) problems.push(`${method} of another's job was answered ${status}`)
    }
  }

  const badBody = async (): Promise<void> => {
    const path = chance.one(["/jobs", "/v1/responses"])
    const { status } = await as("hostile", node()).call("POST", path, chance.one(bodies as [() => string])())
    if (status < 400 || (status >= 500 && status !== 503)) problems.push(`a bad body was answered ${status}`)
  }

  const job = async (): Promise<void> => {
    const caller = as("hostile", node())
    const { more, work } = chance.one(jobs as [(typeof jobs)[number]])
    const { body, status } = await caller.submit(JSON.stringify(work), { maxAttempts: 1, ...more })
    if (status !== 202) return
    await sleep(chance.between(0, 3000))
    await caller.call("POST", `/jobs/${body.id}/cancel`)
  }

  const queueFull = async (): Promise<void> => {
    const caller = as("hostile", node())
    const many = await Promise.all(
      Array.from({ length: 60 }, () => caller.submit(JSON.stringify({ text: "many", padding: "x".repeat(20_000) }))),
    )
    const ids = many.filter(({ status }) => status === 202).map(({ body }) => String(body.id))
    await Promise.all(ids.map((id) => caller.call("POST", `/jobs/${id}/cancel`)))
  }

  const unreadStreams = async (): Promise<void> => {
    const id = (await as("hostile", node()).call("GET", "/jobs?limit=1")).body?.jobs?.[0]?.id
    if (id === undefined) return
    await Promise.all(
      Array.from({ length: 20 }, () =>
        write(
          node(),
          `${head("GET", chance.one([`/jobs/${id}/events`, `/v1/responses/${id}?stream=true`]))}\r\n`,
          3000,
        ),
      ),
    )
  }

  const deeds: ReadonlyArray<() => Promise<unknown>> = [
    others,
    badBody,
    job,
    queueFull,
    unreadStreams,
    () => write(node(), `${head("GET", "/jobs?limit=100")}\r\n`.repeat(400), 2000),
    () => write(node(), "GET /docs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".repeat(2000), 2000),
    () =>
      write(
        node(),
        `${head("POST", "/jobs", "Content-Type: application/json\r\nContent-Length: 900000\r\n")}\r\n{`,
        2000,
      ),
    () => write(node(), head("GET", "/jobs"), 2000),
    () => write(node(), `${head("GET", "/jobs/job_none", `X-Long: ${"x".repeat(60_000)}\r\n`)}\r\n`, 500),
  ]

  const client = async (): Promise<void> => {
    for (let n = 0; !isOver; n++) {
      // Also a service that is dead for a moment is asked.
      await deeds[n % deeds.length]?.().catch(() => {})
      await sleep(chance.between(50, 400))
    }
  }
  const client1 = client()
  return async () => {
    isOver = true
    await client1
    return problems
  }
}
