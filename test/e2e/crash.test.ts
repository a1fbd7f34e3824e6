import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { fastest } from "../fastest.js"
import { type Json, processesWith, Service, standIn, waitUntil } from "./Service.js"

let service: Service
afterEach(() => service.dispose())

/** A service whose jobs are `work` stand-ins. */
const startService = async (env: Record<string, string> = {}) => {
  service = new Service({
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
    ...env,
  })
  await service.start()
}

/** Whether a process is a stand-in of this service's jobs. */
const isStandIn = (pid: number) => {
  try {
    const environ = readFileSync(`/proc/${pid}/environ`, "utf8")
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8")
    return environ.includes(service.data) && command.includes("work.mjs") && command.startsWith(process.execPath)
  } catch {
    return false
  }
}

/**
 * How many stand-ins of this service's jobs are alive, all at one moment: those that are found, and found again when
 * all have been looked at. One look takes time, in which one may end and the next begin.
 */
const alive = () => processesWith("OFFLOAD_ATTEMPT=").filter(isStandIn).filter(isStandIn).length

describe("kill -9", () => {
  it("at five random moments loses none of 50 jobs, and never more than two run at once", async () => {
    await startService()
    let most = 0
    let watching = true
    const watch = (async () => {
      while (watching) {
        most = Math.max(most, alive())
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    })()
    const ids: Array<string> = []
    for (let index = 0; index < 50; index++) {
      const { body, status } = await service.submit(JSON.stringify({ text: `job ${index}`, millis: 100 }), {
        maxAttempts: 20,
      })
      expect(status).toBe(202)
      ids.push(body.id)
    }
    for (let round = 0; round < 5; round++) {
      const moment = Math.random() * 600
      await new Promise((resolve) => setTimeout(resolve, moment))
      await service.kill()
      await service.start()
    }
    const jobs = await Promise.all(ids.map((id) => service.ended(id, 150)))
    watching = false
    await watch
    expect(jobs.map(({ status }) => status)).toEqual(ids.map(() => "succeeded"))
    expect(jobs.map(({ output }) => output.text)).toEqual(ids.map((_, index) => `job ${index}`))
    for (const { attempts } of jobs) {
      const outcomes = attempts.map(({ outcome }: Json) => outcome)
      expect(outcomes.filter((outcome: string) => outcome === "succeeded")).toHaveLength(1)
      expect(outcomes.slice(0, -1).every((outcome: string) => outcome === "orphaned")).toBe(true)
    }
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(2)
    // Their old order: each was first begun no sooner than the one before it.
    const begun = jobs.map(({ attempts }) => Date.parse(attempts[0].startedAt))
    expect(begun).toEqual([...begun].sort((a, b) => a - b))
    const { body } = await service.call("GET", "/resources")
    expect(body.resources[0]).toMatchObject({ running: 0, queued: 0 })
  })

  it("leaves no process of a job alive for longer than a second", async () => {
    await startService()
    const work = JSON.stringify({ text: "x", millis: 600_000, ignoreTerm: true })
    const { body } = await service.submit(work, { maxAttempts: 100 })
    const millis = await fastest(1000, async () => {
      await waitUntil(() => alive() === 1)
      await service.kill()
      const began = Date.now()
      await waitUntil(() => processesWith(`${body.id}.`).length === 0)
      const lived = Date.now() - began
      await service.start()
      return lived
    })
    expect(millis).toBeLessThan(1000)
  })

  it("in the middle of an attempt makes it an orphan: tried again, and failed when no attempt is left", async () => {
    await startService()
    const { body } = await service.submit(JSON.stringify({ text: "x", millis: 600_000 }), { maxAttempts: 2 })
    for (let round = 0; round < 2; round++) {
      await waitUntil(() => alive() === 1)
      await waitUntil(async () => (await service.call("GET", `/jobs/${body.id}`)).body.output?.text === "x")
      await service.kill()
      await service.start()
    }
    const job = await service.ended(body.id)
    expect(job).toMatchObject({ status: "failed", error: { tag: "Orphaned" } })
    expect(job.attempts.map(({ outcome }: Json) => outcome)).toEqual(["orphaned", "orphaned"])
    expect(job.output.text).toBe("x")
  })
})

describe("SIGTERM", () => {
  it("is not ready at once, lets short work finish, hands back the rest, and exits 0, also where it comes again", async () => {
    await startService({ OFFLOAD_DRAIN_SECONDS: "6" })
    const file = (name: string) => join(service.data, name)
    const short = (await service.submit(JSON.stringify({ text: "short", until: file("short") }))).body
    const long = (await service.submit(JSON.stringify({ text: "long", until: file("long") }), { maxAttempts: 1 })).body
    const waiting = (await service.submit(JSON.stringify({ text: "waiting" }))).body
    await waitUntil(() => alive() === 2)
    const stream = await fetch(`${service.url}/jobs/${waiting.id}/events`)
    const exit = service.stop()
    await waitUntil(async () => (await service.call("GET", "/health/ready")).status === 503)
    // A terminal and npm tell it twice.
    service.signal("SIGINT")
    service.signal("SIGTERM")
    expect((await service.call("GET", "/health/live")).status).toBe(200)
    expect((await service.call("GET", `/jobs/${waiting.id}`)).body.status).toBe("queued")
    writeFileSync(file("short"), "")
    await stream.text().catch(() => "cut")
    expect(await exit).toBe(0)
    expect(alive()).toBe(0)
    writeFileSync(file("long"), "")
    await service.start()
    expect((await service.ended(short.id)).attempts).toMatchObject([{ outcome: "succeeded" }])
    expect((await service.ended(long.id)).attempts).toMatchObject([
      { outcome: "interrupted" },
      { outcome: "succeeded" },
    ])
    expect((await service.ended(waiting.id)).attempts).toHaveLength(1)
  })
})
