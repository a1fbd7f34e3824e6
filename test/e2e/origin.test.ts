/** A web page of another origin changes nothing, with requests for which a browser asks nobody before. */
import { existsSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { chromium } from "playwright-core"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Service, standIn } from "./Service.js"

const browser = "/usr/bin/chromium"
const hasBrowser = existsSync(browser)
if (!hasBrowser) console.info("no chromium on this machine: no page of another origin is tried")

const service = new Service({
  OFFLOAD_LLM: "command",
  OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
  OFFLOAD_CORS_ORIGINS: "https://page.example",
})
beforeAll(() => service.start())
afterAll(() => service.dispose())

const long = JSON.stringify({ millis: 600_000 })
const running = async (): Promise<string> => (await service.submit(long)).body.id
const statusOf = async (id: string) => (await service.call("GET", `/jobs/${id}`)).body.status
const jobs = async () => (await service.call("GET", "/jobs?limit=100")).body.jobs.length

const foreign: ReadonlyArray<Record<string, string>> = [
  { origin: "https://evil.example" },
  { origin: "http://localhost:1" },
  { origin: "null" },
  { "sec-fetch-site": "cross-site" },
  { "sec-fetch-site": "same-site", origin: "http://127.0.0.1:1" },
]

describe("a request of a page of another origin", () => {
  it.each(foreign)("changes nothing: %j", async (headers) => {
    const id = await running()
    const before = await jobs()
    for (const [method, path, body] of [
      ["POST", "/jobs", { prompt: "x" }],
      ["POST", `/jobs/${id}/cancel`, undefined],
      ["POST", `/jobs/${id}/retry`, undefined],
      ["DELETE", `/jobs/${id}`, undefined],
      ["PATCH", "/resources/llm", { permits: 9 }],
    ] as const) {
      const answer = await service.call(method, path, body, headers)
      expect([path, answer.status, answer.body.type]).toEqual([path, 403, "/problems/foreign-origin"])
    }
    for (const path of ["/v1/responses", `/v1/responses/${id.replace("job_", "resp_")}/cancel`]) {
      const answer = await service.call("POST", path, { input: "x" }, headers)
      expect([path, answer.status, answer.body.error.code]).toEqual([path, 403, "foreign_origin"])
    }
    expect(["queued", "running"]).toContain(await statusOf(id))
    expect(await jobs()).toBe(before)
    expect((await service.call("GET", "/resources")).body.resources[0].permits).toBe(2)
    expect((await service.call("GET", "/jobs", undefined, headers)).status).toBe(200)
    await service.call("POST", `/jobs/${id}/cancel`)
  })

  it.each([
    {},
    { "sec-fetch-site": "same-origin" },
    { "sec-fetch-site": "none" },
    { origin: "https://page.example", "sec-fetch-site": "cross-site" },
  ])("is not that of the service's own page, of an allowed one, or of no page: %j", async (headers) => {
    const id = await running()
    expect([200, 202]).toContain((await service.call("POST", `/jobs/${id}/cancel`, undefined, headers)).status)
    const own = await running()
    const { status } = await service.call("POST", `/jobs/${own}/cancel`, undefined, { origin: service.url })
    expect([200, 202]).toContain(status)
  })
})

it.skipIf(!hasBrowser)(
  "a browser cancels a job for the service's own page, and for no other one",
  async () => {
    const page = createServer((_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<p>hello"))
    await new Promise<void>((resolve) => page.listen(0, "127.0.0.1", resolve))
    const elsewhere = `http://127.0.0.1:${(page.address() as AddressInfo).port}/`
    const chrome = await chromium.launch({
      executablePath: browser,
      timeout: 120_000,
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
    })
    try {
      const tab = await chrome.newPage()
      const cancelFrom = async (address: string) => {
        const id = await running()
        await tab.goto(address, { timeout: 120_000 })
        await tab.evaluate(
          (url) => globalThis.fetch(url, { method: "POST", mode: "no-cors" }).then(() => undefined),
          `${service.url}/jobs/${id}/cancel`,
        )
        return statusOf(id)
      }
      expect(["queued", "running"]).toContain(await cancelFrom(elsewhere))
      expect(["running", "cancelled"]).toContain(await cancelFrom(`${service.url}/docs`))
      const ended = (await service.call("GET", "/jobs?limit=1")).body.jobs[0]
      expect((await service.ended(ended.id)).status).toBe("cancelled")
    } finally {
      await chrome.close()
      page.close()
    }
  },
  240_000,
)
