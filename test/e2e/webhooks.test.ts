import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { DnsServer } from "../Webhook/DnsServer.js"
import { fixture, makeSecret, Receiver, silence, status, verify } from "./Receiver.js"
import { type Json, Service, standIn, waitUntil } from "./Service.js"

const secret = makeSecret("a")
let service: Service
let receiver: Receiver

const startService = async (env: Record<string, string> = {}) => {
  service = new Service({
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
    OFFLOAD_WEBHOOK_SECRET: secret,
    OFFLOAD_WEBHOOK_ALLOW_HOSTS: "localhost",
    OFFLOAD_WEBHOOK_RETRY_SECONDS: Array(20).fill("0.1").join(","),
    ...env,
  })
  await service.start()
}

beforeEach(async () => {
  receiver = await new Receiver().start()
})
afterEach(() => receiver.stop())

const submit = async (
  what: Record<string, unknown> = { text: "secret answer" },
  more: Record<string, unknown> = {},
) => {
  const { body, status } = await service.submit(JSON.stringify(what), { webhook: { url: receiver.url() }, ...more })
  expect(status).toBe(202)
  return body
}

/** The job, once its delivery has ended. */
const told = async (id: string): Promise<Json> => {
  let job: Json
  await waitUntil(
    async () => {
      job = (await service.call("GET", `/jobs/${id}`)).body
      return ["succeeded", "failed", "cancelled"].includes(job.webhook.status)
    },
    () => `the delivery has not ended: ${JSON.stringify(job)}`,
    120,
  )
  return job
}

describe("a webhook", () => {
  beforeAll(() =>
    startService({
      OFFLOAD_WEBHOOK_SECRET: `${secret} ${makeSecret("b")}`,
      OFFLOAD_WEBHOOK_RETRY_SECONDS: "0.1,0.1,0.1",
      OFFLOAD_PERMITS: "1",
      OFFLOAD_LOG_LEVEL: "debug",
    }),
  )
  afterAll(() => service.dispose())

  it("is told of each end by a signed message without prompt and output", async () => {
    const good = await submit(undefined, { metadata: { user: "1" } })
    expect(good.webhook).toMatchObject({ url: receiver.url(), status: "waiting", attempts: 0, error: null })
    const bad = await submit({ text: "secret half", exit: 3, stderr: "secret noise" }, { maxAttempts: 1 })
    const busy = await submit({ millis: 600_000 })
    const late = await submit({}, { deadlineSeconds: 0.2 })
    const unwanted = await submit({})
    expect((await service.call("POST", `/jobs/${unwanted.id}/cancel`)).body.status).toBe("cancelled")
    await told(late.id)
    await service.call("POST", `/jobs/${busy.id}/cancel`)
    const jobs = await Promise.all([good, bad, busy, late, unwanted].map(({ id }) => told(id)))

    expect(jobs.map(({ webhook }) => webhook)).toMatchObject(
      jobs.map(({ webhook: { id } }) => ({ id, status: "succeeded", attempts: 1, error: null, retryAt: null })),
    )
    expect(receiver.received).toHaveLength(5)
    const payloads = jobs.map(({ webhook: { id } }) => {
      const received = receiver.received.find(({ headers }) => headers["webhook-id"] === id)
      if (received === undefined) throw new Error(`nothing was received for ${id}`)
      expect(received.headers["content-type"]).toBe("application/json")
      // Either secret will do.
      expect(verify(makeSecret("b"), received)).toEqual(received.body)
      expect(() => verify(makeSecret("c"), received)).toThrow()
      expect(received.text).not.toContain("secret")
      return verify(secret, received)
    })
    expect(payloads.map(({ type }) => type)).toEqual([
      "job.succeeded",
      "job.failed",
      "job.cancelled",
      "job.failed",
      "job.cancelled",
    ])
    expect(payloads[0]).toMatchObject({
      timestamp: jobs[0].finishedAt,
      data: { id: good.id, status: "succeeded", resource: "llm", metadata: { user: "1" }, error: null },
    })
    expect(payloads[1].data.error).toMatchObject({ tag: "LlmExit", exitCode: 3 })
    expect(payloads[3].data).toMatchObject({ id: late.id, error: { tag: "Expired" } })
  })

  it("has a delivery that is a job of its own, which only those see who ask for it", async () => {
    const { id, webhook } = await told((await submit()).id)
    const { jobs } = (await service.call("GET", "/jobs?limit=100")).body
    expect(jobs[0].id).toBe(id)
    expect(jobs.filter(({ resource }: Json) => resource !== "llm")).toEqual([])
    expect((await service.call("GET", "/jobs?resource=webhooks&limit=1")).body.jobs).toMatchObject([{ id: webhook.id }])
    expect((await service.call("GET", `/jobs/${webhook.id}`)).body).toMatchObject({
      resource: "webhooks",
      status: "succeeded",
      deliveryOf: id,
      webhook: null,
      attempts: [{ adapter: "webhook", outcome: "succeeded" }],
    })
    expect((await service.call("GET", "/resources")).body.resources).toMatchObject([{ name: "llm" }])
    const direct = await service.submit("{}", { resource: "webhooks" })
    expect(direct).toMatchObject({ status: 422, body: { type: "/problems/unknown-resource" } })
    // The job may go before its delivery, and the other way round.
    expect((await service.call("DELETE", `/jobs/${webhook.id}`)).status).toBe(204)
    expect((await service.call("GET", `/jobs/${id}`)).body.webhook).toMatchObject({ status: "removed" })
  })

  it("is tried again, with the same id and body, until it answers 2xx", async () => {
    receiver.answer = (response, received) =>
      status([500, 302, 429, 200][receiver.received.indexOf(received)] ?? 200)(response, received)
    const { webhook } = await told((await submit()).id)
    expect(webhook).toMatchObject({ status: "succeeded", attempts: 4, error: null })
    expect(receiver.ids).toEqual([webhook.id, webhook.id, webhook.id, webhook.id])
    expect(new Set(receiver.received.map(({ text }) => text)).size).toBe(1)
    for (const received of receiver.received) verify(secret, received)
    const { body } = await service.call("GET", `/jobs/${webhook.id}`)
    expect(body.attempts.map(({ cause }: Json) => cause?.httpStatus)).toEqual([500, 302, 429, undefined])
  })

  it("fails when its attempts are used up", async () => {
    receiver.answer = status(500)
    const job = await told((await submit()).id)
    expect(job.status).toBe("succeeded")
    expect(job.webhook).toMatchObject({
      status: "failed",
      attempts: 4,
      error: { tag: "WebhookStatus", httpStatus: 500, retryable: true },
    })
  })

  it("that took no delivery is sent it again, under the same id, where that is asked for", async () => {
    receiver.answer = status(500)
    const { id, webhook } = await told((await submit()).id)
    expect(webhook).toMatchObject({ status: "failed", attempts: 4 })
    const retry = (delivery: string) => service.call("POST", `/jobs/${delivery}/retry`)
    const again = await retry(webhook.id)
    expect(again.status).toBe(202)
    expect(again.headers.get("location")).toBe(`/jobs/${webhook.id}`)
    expect(again.body).toMatchObject({ id: webhook.id, deliveryOf: id, finishedAt: null })
    // All of its attempts once more, at their own pace.
    await waitUntil(() => receiver.received.length === 8)
    expect((await told(id)).webhook).toMatchObject({ id: webhook.id, status: "failed", attempts: 8 })
    receiver.answer = status(204)
    expect((await retry(webhook.id)).status).toBe(202)
    expect((await told(id)).webhook).toMatchObject({ id: webhook.id, status: "succeeded", attempts: 9, error: null })
    expect(new Set(receiver.ids)).toEqual(new Set([webhook.id]))
    expect(new Set(receiver.received.map(({ text }) => text)).size).toBe(1)
    const { body } = await service.call("GET", `/jobs/${webhook.id}`)
    expect(body.attempts.map(({ attempt }: Json) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(await retry(webhook.id)).toMatchObject({ status: 409, body: { type: "/problems/job-not-failed" } })
    const events = (await service.call("GET", `/jobs/${webhook.id}/events`)).body
    expect([...events.matchAll(/"status":"(failed|succeeded)"/g)].map(([, status]) => status)).toContain("succeeded")
  })

  it("is left alone after 410", async () => {
    receiver.answer = status(410)
    expect((await told((await submit()).id)).webhook).toMatchObject({
      status: "failed",
      attempts: 1,
      error: { tag: "WebhookGone", httpStatus: 410, retryable: false },
    })
    expect(receiver.received).toHaveLength(1)
  })

  it("is not tried before the time that it asks for", async () => {
    receiver.answer = (response, received) =>
      receiver.received.length === 1
        ? status(503, { "retry-after": "2" })(response, received)
        : status(204)(response, received)
    const { body } = await service.call("GET", `/jobs/${(await told((await submit()).id)).webhook.id}`)
    const [first, second] = body.attempts
    expect(Date.parse(second.startedAt) - Date.parse(first.finishedAt)).toBeGreaterThanOrEqual(1900)
  })

  it("is not followed to where it redirects", async () => {
    const other = await new Receiver().start()
    try {
      receiver.answer = status(307, { location: other.url() })
      expect((await told((await submit()).id)).webhook).toMatchObject({ status: "failed", error: { httpStatus: 307 } })
      expect(other.received).toEqual([])
    } finally {
      await other.stop()
    }
  })

  it("leaves no more of its URL than the host in the log, nor the secret", async () => {
    const url = receiver.url("/canary-path?token=canary-query")
    receiver.answer = status(500)
    const { webhook } = await told((await submit({}, { webhook: { url } })).id)
    await receiver.stop()
    await told((await submit({}, { webhook: { url } })).id)
    await receiver.start()
    await service.submit("{}", { webhook: { url: "http://example.com/canary-path" } })
    await waitUntil(() => service.log.includes("WebhookStatus") && service.log.includes("WebhookUnreachable"))
    expect(service.lines.filter(({ annotations }) => annotations?.jobId === webhook.id).length).toBeGreaterThan(2)
    expect(service.log).not.toContain("canary")
    expect(service.log).not.toContain(secret.slice("whsec_".length))
  })
})

describe("a receiver", () => {
  afterEach(() => service.dispose())

  it("is told over TLS of a certificate for its name", async () => {
    const secure = await new Receiver(undefined, true).start()
    try {
      await startService({ NODE_EXTRA_CA_CERTS: fixture("localhost.pem"), OFFLOAD_WEBHOOK_RETRY_SECONDS: "0.05" })
      const { webhook } = await told((await submit({}, { webhook: { url: secure.url() } })).id)
      expect(webhook.status).toBe("succeeded")
      const [received] = secure.received
      if (received === undefined) throw new Error("nothing was received")
      verify(secret, received)
      await service.stop()
      // The same address under a name that the certificate is not for, and without the authority that it needs.
      await service.start({ OFFLOAD_WEBHOOK_ALLOW_HOSTS: "localhost,127.0.0.1", NODE_EXTRA_CA_CERTS: "" })
      for (const url of [secure.url(), secure.url().replace("localhost", "127.0.0.1")]) {
        const { webhook } = await told((await submit({}, { webhook: { url } })).id)
        expect(webhook).toMatchObject({ status: "failed", error: { tag: "WebhookUnreachable" } })
      }
      expect(secure.received).toHaveLength(1)
    } finally {
      await secure.stop()
    }
  })

  it("that is slow holds no permit of the jobs, and ends with its timeout", async () => {
    await startService({ OFFLOAD_PERMITS: "1", OFFLOAD_WEBHOOK_PERMITS: "1", OFFLOAD_WEBHOOK_TIMEOUT_SECONDS: "10" })
    receiver.answer = silence
    const jobs = await Promise.all(Array.from({ length: 6 }, () => submit()))
    for (const { id } of jobs) expect((await service.ended(id)).status).toBe("succeeded")
    expect(receiver.received.length).toBeLessThanOrEqual(2)
    await waitUntil(async () => {
      const { body } = await service.call("GET", `/jobs/${receiver.ids[0]}`)
      return body.attempts[0].cause?.tag === "WebhookUnreachable"
    })
  })
})

describe("kill -9", () => {
  afterEach(() => service.dispose())

  it("between outcome and delivery loses no delivery, and changes no id", async () => {
    await startService()
    await receiver.stop()
    const job = await service.ended((await submit()).id)
    await service.kill()
    await receiver.start()
    await service.start()
    const { webhook } = await told(job.id)
    expect(webhook).toMatchObject({ id: job.webhook.id, status: "succeeded" })
    expect(receiver.ids).toEqual([webhook.id])
  })

  it("in the middle of a delivery makes another attempt of it", async () => {
    await startService()
    receiver.answer = silence
    const { id } = await submit()
    await waitUntil(() => receiver.received.length === 1)
    await service.kill()
    receiver.answer = status(204)
    await service.start()
    const { webhook } = await told(id)
    expect(webhook).toMatchObject({ status: "succeeded", attempts: 2 })
    expect(receiver.ids).toEqual([webhook.id, webhook.id])
    const { body } = await service.call("GET", `/jobs/${webhook.id}`)
    expect(body.attempts.map(({ outcome }: Json) => outcome)).toEqual(["orphaned", "succeeded"])
  })

  it("at random moments tells each of 20 jobs its end", async () => {
    await startService()
    const ids = await Promise.all(
      Array.from({ length: 20 }, async () => (await submit({ millis: 50 }, { maxAttempts: 20 })).id),
    )
    for (let round = 0; round < 3; round++) {
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 500))
      await service.kill()
      await service.start()
    }
    const jobs = await Promise.all(ids.map(told))
    expect(jobs.map(({ webhook }) => webhook.status)).toEqual(ids.map(() => "succeeded"))
    expect(new Set(receiver.ids)).toEqual(new Set(jobs.map(({ webhook }) => webhook.id)))
  })
})

describe("what is refused", () => {
  afterEach(() => service.dispose())

  const refusal = async (url: unknown) => {
    const { body, status } = await service.submit("{}", { webhook: { url } })
    return `${status} ${body.type}`
  }

  it("is a URL that is none, or that the service does not send to, before anything is saved", async () => {
    await startService({ OFFLOAD_WEBHOOK_ALLOW_HOSTS: "10.0.0.0/8" })
    for (const url of [
      "",
      "hook",
      "ftp://example.com/",
      "https://user:pw@example.com/",
      5,
      `https://example.com/${"x".repeat(2000)}`,
    ]) {
      expect(await refusal(url)).toBe("422 /problems/invalid-request")
    }
    for (const url of [
      "http://example.com/",
      "http://localhost/",
      "https://127.0.0.1/",
      "https://127.1/",
      "https://0x7f000001/",
      "https://2130706433/",
      "https://[::1]/",
      "https://[::ffff:127.0.0.1]/",
      "https://169.254.169.254/latest/meta-data",
      "http://11.0.0.1/",
    ]) {
      expect(`${url} ${await refusal(url)}`).toBe(`${url} 422 /problems/webhook-not-allowed`)
    }
    expect((await service.call("GET", "/jobs")).body.jobs).toEqual([])
    expect((await service.submit("{}", { webhook: { url: "http://10.1.2.3/" } })).status).toBe(202)
  })

  it("is a name that has a private address, at its delivery", async () => {
    await startService({ OFFLOAD_WEBHOOK_ALLOW_HOSTS: "" })
    const { webhook } = await told(
      (await submit({}, { webhook: { url: receiver.url().replace("http:", "https:") } })).id,
    )
    expect(webhook).toMatchObject({ status: "failed", attempts: 1, error: { tag: "WebhookRefused" } })
    expect(receiver.received).toEqual([])
  })

  it("is every webhook where there is no secret; what waits for it goes on when there is one", async () => {
    await startService({ OFFLOAD_WEBHOOK_RETRY_SECONDS: Array(20).fill("1").join(",") })
    receiver.answer = status(500)
    const { id } = await submit()
    await waitUntil(() => receiver.received.length > 0)
    await service.stop()
    await service.start({ OFFLOAD_WEBHOOK_SECRET: "" })
    expect(await refusal(receiver.url())).toBe("422 /problems/webhooks-not-configured")
    expect((await service.call("GET", `/jobs/${id}`)).body.webhook.status).toBe("queued")
    await service.stop()
    receiver.answer = status(204)
    await service.start()
    expect((await told(id)).webhook.status).toBe("succeeded")
  })
})

describe("names and receivers of one caller", () => {
  const keys = { alice: "alice-has-a-key-of-32-characters", bob: "bob-has-a-key-of-32-characters--" }
  const as = (key: string) => ({ authorization: `Bearer ${key}` })
  let dns: DnsServer
  let deaf: Receiver
  afterEach(async () => {
    await service.dispose()
    dns.stop()
    await deaf.stop()
  })

  it("that are slow, silent or dead delay no delivery of another one", async () => {
    const slow = Array.from({ length: 12 }, (_, n) => `slow${n}.test`)
    dns = await new DnsServer({
      ...Object.fromEntries(slow.map((name) => [name, { a: "silent", aaaa: "silent" }] as const)),
      // The first address is for documentation: nothing is there.
      "good.test": { a: ["127.0.0.1"], aaaa: ["2001:db8::1"] },
      "deaf.test": { a: ["127.0.0.1"] },
      "dead.test": { a: ["192.0.2.1"] },
    }).start()
    deaf = await new Receiver(silence).start()
    await startService({
      OFFLOAD_WEBHOOK_TIMEOUT_SECONDS: "60",
      OFFLOAD_DNS_SERVERS: dns.address,
      OFFLOAD_WEBHOOK_ALLOW_HOSTS: [...slow, "good.test", "deaf.test", "dead.test"].join(","),
      OFFLOAD_API_KEYS: JSON.stringify({ alice: { keys: [keys.alice] }, bob: { keys: [keys.bob] } }),
    })
    const at = (url: string, key: string) =>
      service.submit(JSON.stringify({ text: "x" }), { webhook: { url } }, as(key)).then(({ body }) => body)
    for (const name of slow) await at(`http://${name}/`, keys.alice)
    for (let n = 0; n < 4; n++) await at(deaf.url().replace("localhost", "deaf.test"), keys.alice)
    await at("http://dead.test/", keys.alice)
    await waitUntil(() => slow.filter((name) => dns.asked.includes(name)).length >= 4)
    const { webhook } = await at(receiver.url().replace("localhost", "good.test"), keys.bob)
    await waitUntil(() => receiver.received.length === 1)
    expect(await service.ended(webhook.id, 60, as(keys.bob))).toMatchObject({ status: "succeeded", attempt: 1 })
    expect(receiver.ids).toEqual([webhook.id])
    expect(receiver.received[0]?.headers.host).toMatch(/^good\.test:/)
  })
})

describe("a delivery that failed", () => {
  const keys = { alice: "alice-has-a-key-of-32-characters", bob: "bob-has-a-key-of-32-characters--" }
  const root = "root-has-a-key-of-32-characters-"
  const as = (key: string) => ({ authorization: `Bearer ${key}` })
  afterEach(() => service.dispose())

  it("is sent again for its owner and for admins, and for nobody else", async () => {
    await startService({
      OFFLOAD_WEBHOOK_RETRY_SECONDS: "0",
      OFFLOAD_API_KEYS: JSON.stringify({
        alice: { keys: [keys.alice] },
        bob: { keys: [keys.bob] },
        root: { keys: [root], admin: true },
      }),
    })
    receiver.answer = status(410)
    const work = JSON.stringify({ text: "x" })
    const { body } = await service.submit(work, { webhook: { url: receiver.url() } }, as(keys.alice))
    const delivery = body.webhook.id
    await waitUntil(() => receiver.received.length === 1)
    expect(await service.ended(delivery, 60, as(keys.alice))).toMatchObject({ status: "failed" })
    const retry = (key: string, id = delivery) => service.call("POST", `/jobs/${id}/retry`, undefined, as(key))
    expect((await retry(keys.bob)).status).toBe(404)
    expect((await retry(root)).status).toBe(202)
    await waitUntil(() => receiver.received.length === 2)
    await service.ended(delivery, 60, as(keys.alice))
    // What an admin may send again is a delivery, and no job.
    expect((await retry(root, body.id)).status).toBe(404)
    receiver.answer = status(204)
    expect((await retry(keys.alice)).status).toBe(202)
    expect(await service.ended(delivery, 60, as(keys.alice))).toMatchObject({ status: "succeeded" })
    expect(new Set(receiver.ids)).toEqual(new Set([delivery]))
  })

  it("waits for a secret and an address that are allowed before it is sent again", async () => {
    await startService({ OFFLOAD_WEBHOOK_RETRY_SECONDS: "0" })
    receiver.answer = status(410)
    const { webhook } = await told((await submit()).id)
    const retry = () => service.call("POST", `/jobs/${webhook.id}/retry`)
    await service.stop()
    await service.start({ OFFLOAD_WEBHOOK_SECRET: "" })
    expect(await retry()).toMatchObject({ status: 422, body: { type: "/problems/webhooks-not-configured" } })
    await service.stop()
    await service.start({ OFFLOAD_WEBHOOK_ALLOW_HOSTS: "" })
    expect(await retry()).toMatchObject({ status: 422, body: { type: "/problems/webhook-not-allowed" } })
  })
})
