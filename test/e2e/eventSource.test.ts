import { existsSync } from "node:fs"
import { EventSource } from "eventsource"
import { chromium } from "playwright-core"
import { afterEach, describe, expect, it } from "vitest"
import { freePort } from "../freePort.js"
import { Service, standIn, waitUntil } from "./Service.js"

const browser = "/usr/bin/chromium"
const hasBrowser = existsSync(browser)
if (!hasBrowser) console.info("no chromium on this machine: the event stream is not read by a browser")

let service: Service
afterEach(() => service.dispose())

/** A service that is found again at its address after a restart. */
const start = async () => {
  service = new Service({
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
    PORT: String(await freePort()),
    OFFLOAD_MAX_ATTEMPTS: "5",
  })
  await service.start()
}

const slow = JSON.stringify({ text: "line", chunks: 30, millis: 6000 })

/** What a reader must have at the end: all of the log once, in order. */
const whole = async (id: string) => {
  const stream = String((await service.call("GET", `/jobs/${id}/events`)).body)
  return [...stream.matchAll(/^id: (\d+)\nevent: (\w+)$/gm)].map(([, number, event]) => `${number} ${event}`)
}

describe("an EventSource", () => {
  it("of the package 'eventsource' comes back by itself after kill -9, with nothing lost or repeated", async () => {
    await start()
    const { body } = await service.submit(slow)
    const seen: Array<string> = []
    const source = new EventSource(`${service.url}/jobs/${body.id}/events`)
    for (const name of ["status", "output", "done"]) {
      source.addEventListener(name, (event) => {
        seen.push(`${event.lastEventId} ${name}`)
        if (name === "done") source.close()
      })
    }
    await waitUntil(() => seen.filter((each) => each.endsWith("output")).length >= 3)
    await service.kill()
    await service.start()
    await waitUntil(
      () => seen.at(-1)?.endsWith("done") === true,
      () => seen.join(),
    )
    expect(seen).toEqual(await whole(body.id))
  })

  it.skipIf(!hasBrowser)("of a browser reads a job to its end", async () => {
    await start()
    const { body } = await service.submit(JSON.stringify({ text: "line", chunks: 5, millis: 1500 }))
    const chrome = await chromium.launch({
      executablePath: browser,
      timeout: 120_000,
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
    })
    try {
      const page = await chrome.newPage()
      await page.goto(`${service.url}/docs`, { timeout: 120_000 })
      const seen = await page.evaluate(
        (path) =>
          new Promise<ReadonlyArray<string>>((resolve) => {
            const seen: Array<string> = []
            const source = new globalThis.EventSource(path)
            for (const name of ["status", "output", "done"]) {
              source.addEventListener(name, (event) => {
                seen.push(`${event instanceof MessageEvent ? event.lastEventId : ""} ${name}`)
                if (name === "done") {
                  source.close()
                  resolve(seen)
                }
              })
            }
          }),
        `/jobs/${body.id}/events`,
      )
      expect(seen).toEqual(await whole(body.id))
      expect(seen.filter((each) => each.endsWith("output")).length).toBeGreaterThan(0)
    } finally {
      await chrome.close()
    }
  })
})
