import { createServer } from "node:http"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Json, Service, standIn } from "./Service.js"

const received: Array<{ readonly path: string; readonly key: string | undefined; readonly body: Json }> = []
const collector = createServer((request, response) => {
  let text = ""
  request.on("data", (chunk) => {
    text += chunk
  })
  request.on("end", () => {
    received.push({ path: request.url ?? "", key: request.headers["x-key"]?.toString(), body: JSON.parse(text) })
    response.end("{}")
  })
})

let service: Service
beforeAll(async () => {
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve))
  const address = collector.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  service = await new Service({
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    OTEL_EXPORTER_OTLP_HEADERS: "x-key=a%20b",
    OTEL_METRIC_EXPORT_INTERVAL: "200",
  }).start()
})
afterAll(async () => {
  await service.dispose()
  collector.close()
})

const of = (path: string) => received.filter((each) => each.path === path)

const metric = (name: string): Json =>
  of("/v1/metrics")
    .flatMap(({ body }) => body.resourceMetrics)
    .flatMap(({ scopeMetrics }) => scopeMetrics)
    .flatMap(({ metrics }) => metrics)
    .filter((each) => each.name === name)
    .at(-1)

const spans = (): ReadonlyArray<Json> =>
  of("/v1/traces")
    .flatMap(({ body }) => body.resourceSpans)
    .flatMap(({ scopeSpans }) => scopeSpans)
    .flatMap((each) => each.spans)

describe("OTLP", () => {
  it("takes metrics and traces, and never a prompt or an output", async () => {
    const prompt = JSON.stringify({ text: "canary-output", note: "canary-prompt" })
    const { body } = await service.submit(prompt, {}, { prefer: "wait=60" })
    expect(body.status).toBe("succeeded")
    await expect.poll(() => metric("offload_jobs_submitted_total")?.sum?.dataPoints?.length).toBe(1)
    await expect.poll(() => metric("offload_permits")?.gauge?.dataPoints?.length).toBe(1)
    await expect.poll(() => spans().map(({ name }) => name)).toContain("Llm.run")
    await expect.poll(() => spans().map(({ name }) => name)).toContain("http.server POST")
    // Those too that had to wait, and were not begun by the request that brought them.
    const waited = await Promise.all(Array.from({ length: 5 }, () => service.submit(prompt, {}, { prefer: "wait=60" })))
    const attempts = waited.map(({ body }) => `${body.id}.1`)
    const traced = () =>
      spans()
        .filter(({ name }) => name === "Llm.run")
        .flatMap(({ attributes }) => attributes)
        .filter(({ key }: Json) => key === "attempt")
        .map(({ value }: Json) => value.stringValue)
    await expect.poll(traced).toEqual(expect.arrayContaining(attempts))
    expect(new Set(received.map(({ key }) => key))).toEqual(new Set(["a b"]))
    expect(JSON.stringify(received)).toContain('"offload"')
    expect(JSON.stringify(received)).not.toMatch(/canary/)
  })

  it("takes of a request what is on a list: no key, no cookie, no idempotency key, no header of one's own, no query", async () => {
    const headers = {
      authorization: "Bearer canary-key",
      "proxy-authorization": "Basic canary-proxy",
      cookie: "session=canary-cookie",
      "idempotency-key": "canary-idempotency",
      "x-token": "canary-token",
      "x-forwarded-for": "canary-address",
      referer: "http://localhost/canary-referer",
      "user-agent": "agent-of-the-test",
    }
    const { body } = await service.submit(JSON.stringify({ text: "x" }), {}, headers)
    await service.call("GET", `/jobs/${body.id}?canary=query`, undefined, headers)
    await service.call("GET", "/jobs?cursor=canary-cursor", undefined, headers)
    const attributes = () => spans().flatMap((span) => span.attributes)
    const values = (key: string) =>
      attributes()
        .filter((attribute: Json) => attribute.key === key)
        .map(({ value }: Json) => value.stringValue)
    await expect.poll(() => values("url.path").filter((path) => path === "/jobs").length).toBeGreaterThan(1)
    await expect.poll(() => values("url.path")).toContain(`/jobs/${body.id}`)
    expect(values("http.request.header.user-agent")).toContain("agent-of-the-test")
    expect(values("http.request.header.content-type")).toContain("application/json")
    expect(JSON.stringify(received)).not.toMatch(/canary/)
  })
})
