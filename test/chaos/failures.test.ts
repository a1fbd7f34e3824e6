/**
 * Promise 11: every failure has one log line and one stored cause, whatever it is; and a secret that is in the prompt,
 * the output, `stderr`, a key, the environment or the URL of a webhook is in no log, metric, error, list of processes
 * or answer to somebody else.
 */
import { readdirSync, readFileSync } from "node:fs"
import { afterEach, beforeEach, expect, it } from "vitest"
import { makeSecret, Receiver, status } from "../e2e/Receiver.js"
import { type Json, Service, waitUntil } from "../e2e/Service.js"
import { Lives } from "./Lives.js"

let service: Service
let lives: Lives
afterEach(async () => {
  await service?.dispose()
  lives?.dispose()
})

const start = async (env: Record<string, string> = {}) => {
  service = await new Service({
    ...lives.env,
    OFFLOAD_LOG_LEVEL: "debug",
    ...env,
  }).start()
}

beforeEach(() => {
  lives = new Lives()
})

/** What this file makes happen; whatever is missing at its end is a failure that nobody has seen. */
const seen = new Set<string>()

/** The tag of every error that a job can have: the rows that say whether it is tried again. */
const tags = () =>
  [...readFileSync("docs/errors.md", "utf8").matchAll(/^\| `(\w+)` \| [^|]+ \| (?:yes|no) \|/gm)].map(([, tag]) =>
    String(tag),
  )

/** Words that a prompt holds are no evidence: its command line may only repeat them. */
const base64 = (text: string): string => Buffer.from(text).toString("base64")

/** A job that failed so, has as many causes as attempts, and one line that says so. */
const failedOnce = async ({ attempts, error, id, status }: Json, tag: string, expected: number) => {
  const causes = attempts.map(({ cause }: Json) => cause?.tag)
  expect([status, error?.tag, causes]).toEqual(["failed", tag, Array(expected).fill(tag)])
  const ends = () =>
    service.lines.filter(({ annotations, message }) => annotations?.jobId === id && /^job failed/.test(String(message)))
  await waitUntil(() => ends().length > 0)
  expect(ends()).toHaveLength(1)
  expect(ends()[0]).toMatchObject({ annotations: { error: tag } })
  seen.add(tag)
}

it("every failure of a command has one line and one cause", async () => {
  const result = { type: "result", subtype: "error_max_budget_usd", is_error: true, total_cost_usd: 0.6 }
  await start({
    OFFLOAD_MAX_OUTPUT_BYTES: "2000",
    OFFLOAD_RESOURCES: JSON.stringify({
      work: { adapter: "command", command: lives.command },
      none: { adapter: "command", command: ["no-such-command-anywhere"] },
      strange: { adapter: "command", command: [process.execPath, "--model", "{model}"] },
      nowhere: { adapter: "command", command: ["true"], folder: "/no/such/folder" },
      cut: { adapter: "claude", command: ["true"] },
      dear: { adapter: "claude", command: ["/bin/sh", "-c", `echo '${JSON.stringify(result)}'`] },
      busy: { adapter: "command", command: lives.command, permits: 1 },
    }),
  })
  const submit = async (work: Record<string, unknown>, more: Record<string, unknown> = {}) =>
    (await service.submit(JSON.stringify({ text: "x", ...work }), { resource: "work", maxAttempts: 2, ...more })).body
      .id
  const killed = await submit({ millis: 600_000 }, { resource: "busy", maxAttempts: 1 })
  const expected: ReadonlyArray<readonly [id: string, tag: string, attempts: number]> = [
    [await submit({ exit: 7, stderr: base64("no") }), "LlmExit", 2],
    [await submit({ exit: 1, stderr: base64("status 429: too many requests") }), "LlmRateLimited", 2],
    [await submit({ exit: 1, stderr: base64("status 503: overloaded") }), "LlmOverloaded", 2],
    [await submit({ exit: 1, stderr: base64("invalid api key") }), "LlmAuth", 1],
    [await submit({ millis: 600_000 }, { timeoutSeconds: 0.5 }), "LlmTimeout", 2],
    [await submit({ text: "y".repeat(3000) }), "LlmOutputTooLarge", 1],
    [await submit({}, { resource: "none" }), "LlmNotFound", 1],
    [await submit({}, { resource: "strange", model: `m${"m".repeat(100)}` }), "LlmExit", 2],
    // So many refusals of the machine fail a job, and no fewer.
    [await submit({}, { resource: "nowhere" }), "LlmSpawn", 100],
    [await submit({}, { resource: "cut" }), "LlmOutputTruncated", 2],
    [await submit({}, { resource: "dear", maxCostUsd: 0.5 }), "BudgetExceeded", 1],
    [await submit({}, { resource: "busy", deadlineSeconds: 0.1 }), "Expired", 0],
  ]
  for (const [id, tag, attempts] of expected) await failedOnce(await service.ended(id), tag, attempts)
  for (let death = 1; death <= 3; death++) {
    await waitUntil(async () => (await service.call("GET", `/jobs/${killed}`)).body.status === "running")
    await service.kill()
    await service.start()
  }
  await failedOnce(await service.ended(killed), "Orphaned", 3)
})

it("every failure of a delivery has one line and one cause", async () => {
  const receiver = await new Receiver((response, received) =>
    status(received.path === "/gone" ? 410 : 500)(response, received),
  ).start()
  const nobody = await new Receiver().start()
  await nobody.stop()
  const env = { OFFLOAD_WEBHOOK_SECRET: makeSecret("d"), OFFLOAD_WEBHOOK_ALLOW_HOSTS: "localhost" }
  try {
    await start({ ...env, OFFLOAD_WEBHOOK_RETRY_SECONDS: "0.1" })
    const submit = async (url: string) =>
      (await service.submit(JSON.stringify({ text: "x" }), { webhook: { url } })).body.id
    const deliveryOf = async (id: string) => {
      const { webhook } = (await service.call("GET", `/jobs/${id}`)).body
      return await service.ended(webhook.id)
    }
    const expected: ReadonlyArray<readonly [id: string, tag: string, attempts: number]> = [
      [await submit(receiver.url("/")), "WebhookStatus", 2],
      [await submit(receiver.url("/gone")), "WebhookGone", 1],
      [await submit(nobody.url("/")), "WebhookUnreachable", 2],
    ]
    for (const [id, tag, attempts] of expected) {
      await service.ended(id)
      await failedOnce(await deliveryOf(id), tag, attempts)
    }
    // A host that is allowed when the job is saved, and no more when its end is told.
    const late = (await service.submit(JSON.stringify({ millis: 600_000 }), { webhook: { url: receiver.url("/") } }))
      .body.id
    await waitUntil(async () => (await service.call("GET", `/jobs/${late}`)).body.status === "running")
    await service.kill()
    await service.start({ OFFLOAD_WEBHOOK_ALLOW_HOSTS: "" })
    await service.call("POST", `/jobs/${late}/cancel`)
    await service.ended(late)
    await failedOnce(await deliveryOf(late), "WebhookRefused", 1)
  } finally {
    await receiver.stop()
  }
})

it("nothing else can fail, but for a bug", () => {
  expect(tags().filter((tag) => !seen.has(tag))).toEqual(["Defect"])
})

/** The arguments of every process of the machine, but for the environment, which is for its owner alone. */
const commandLines = () =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8")
      } catch {
        return ""
      }
    })
    .join("\n")

it("a secret is found nowhere", async () => {
  const receiver = await new Receiver(status(500)).start()
  const canary = (where: string) => `canary-of-the-${where}-0123456789`
  const key = canary("key")
  const other = { authorization: "Bearer another-key-0123456789" }
  const admin = { authorization: "Bearer the-key-of-an-admin-01" }
  const own = { authorization: `Bearer ${key}` }
  try {
    await start({
      OFFLOAD_API_KEYS: JSON.stringify({
        alice: { keys: [key] },
        bob: { keys: ["another-key-0123456789"] },
        root: { keys: ["the-key-of-an-admin-01"], admin: true },
      }),
      SECRET_OF_THE_SERVICE: canary("environment"),
      SECRET_OF_THE_COMMAND: canary("command"),
      OFFLOAD_LLM_ENV: "SECRET_OF_THE_COMMAND",
      OFFLOAD_WEBHOOK_SECRET: makeSecret("c"),
      OFFLOAD_WEBHOOK_ALLOW_HOSTS: "localhost",
      OFFLOAD_WEBHOOK_RETRY_SECONDS: "0.1",
    })
    const seen: Array<string> = []
    const work = (more: Record<string, unknown>) =>
      JSON.stringify({ text: canary("output"), stderr: base64(canary("stderr")), prompt: canary("prompt"), ...more })
    const submit = async (more: Record<string, unknown>) => {
      const webhook = { url: receiver.url(`/${canary("path")}?${canary("query")}`) }
      const options = { maxAttempts: 2, system: canary("system"), metadata: { note: canary("metadata") }, webhook }
      return (await service.submit(work(more), options, own)).body.id
    }
    const ids = [
      await submit({ env: "SECRET_OF_THE_SERVICE" }),
      await submit({ env: "SECRET_OF_THE_COMMAND", exit: 3 }),
      await submit({ millis: 600_000 }),
    ]
    // While they run, and after: what others see.
    const look = async () => {
      seen.push(commandLines(), String((await service.call("GET", "/metrics", undefined, admin)).body))
      for (const headers of [other, admin, {}]) {
        for (const path of [
          "/jobs",
          "/resources",
          "/health/ready",
          ...ids.flatMap((id) => [`/jobs/${id}`, `/jobs/${id}/events`]),
        ]) {
          seen.push(JSON.stringify((await service.call("GET", path, undefined, headers)).body))
        }
        for (const id of ids) {
          seen.push(JSON.stringify((await service.call("POST", `/jobs/${id}/cancel`, undefined, headers)).body))
        }
      }
    }
    await waitUntil(() => lives.of(ids[2] ?? "").length > 0)
    await look()
    await service.call("POST", `/jobs/${ids[2]}/cancel`, undefined, own)
    const jobs: Array<Json> = []
    for (const id of ids) jobs.push(await service.ended(id, 60, own))
    for (const id of ids) {
      await waitUntil(
        async () => (await service.call("GET", `/jobs/${id}`, undefined, own)).body.webhook.status === "failed",
      )
    }
    await look()
    // Refusals that have the secret in their hands.
    for (const [body, headers] of [
      [`{"prompt":"${canary("prompt")}"`, own],
      [{ prompt: canary("prompt"), [canary("member")]: 1 }, other],
      [{ prompt: 1, metadata: { a: { b: canary("metadata") } } }, own],
      [{ prompt: canary("prompt"), webhook: { url: `http://example.com/${canary("path")}` } }, own],
      [{ prompt: canary("prompt"), resource: "none" }, own],
      [{ prompt: canary("prompt") }, { authorization: `Bearer x${key}` }],
      [{ prompt: canary("prompt") }, { authorization: `Basic ${key}` }],
    ] as const) {
      const answer = await service.call("POST", "/jobs", body, headers)
      expect(answer.status).toBeGreaterThanOrEqual(400)
      seen.push(JSON.stringify(answer.body).replaceAll(canary("member"), ""))
    }
    expect(await service.stop()).toBe(0)

    expect(jobs[0].error).toBeNull()
    expect(jobs.map(({ status }) => status)).toEqual(["succeeded", "failed", "cancelled"])
    // The owner sees what is theirs; the service's own environment is nobody's.
    expect(jobs[0].output.text).toBe(`${canary("output")}none`)
    expect(jobs[1].output.text).toBe(`${canary("output")}${canary("command")}`)
    expect(jobs[1].error.stderr).toBe(canary("stderr"))
    expect(receiver.received.length).toBeGreaterThan(3)
    for (const { body, text } of receiver.received) {
      seen.push(text.replaceAll(canary("metadata"), ""))
      expect(body.data.metadata).toEqual({ note: canary("metadata") })
    }
    expect(seen.join("\n").match(/canary[a-z0-9-]*/g)).toBeNull()
    expect(service.log.match(/canary[a-z0-9-]*/g)).toBeNull()
    expect(service.log).not.toContain(makeSecret("c").slice("whsec_".length))
  } finally {
    await receiver.stop()
  }
})
