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
    for (const [index, { attempts, error, output, status }] of jobs.entries()) {
      const outcomes = attempts.map(({ outcome }: Json) => outcome)
      expect(outcomes.slice(0, -1).filter((outcome: string) => outcome !== "orphaned")).toEqual([])
      // One that was hit three times, at last while it ran alone, is taken for the cause.
      if (status === "failed") {
        expect([error.tag, outcomes.length, attempts[2].alone]).toEqual(["Orphaned", 3, true])
        continue
      }
      expect([status, outcomes.at(-1), output.text]).toEqual(["succeeded", "succeeded", `job ${index}`])
    }
    // Two deaths hit two jobs at most, and each further one a single suspect: five of them end no more than two.
    expect(jobs.filter(({ status }) => status === "succeeded").length).toBeGreaterThanOrEqual(48)
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
    const millis = await fastest(1000, async () => {
      const { body } = await service.submit(work)
      await waitUntil(() => alive() === 1)
      await service.kill()
      const began = Date.now()
      await waitUntil(() => processesWith(`${body.id}.`).length === 0)
      const lived = Date.now() - began
      await service.start()
      await service.call("POST", `/jobs/${body.id}/cancel`)
      await service.ended(body.id)
      return lived
    })
    expect(millis).toBeLessThan(1000)
  })

  it("in the middle of an attempt makes it an orphan: tried again, alone after two, and failed by the third", async () => {
    await startService()
    const { body } = await service.submit(JSON.stringify({ text: "x", millis: 600_000 }), { maxAttempts: 1 })
    for (let round = 0; round < 3; round++) {
      await waitUntil(() => alive() === 1)
      await waitUntil(async () => (await service.call("GET", `/jobs/${body.id}`)).body.output?.text === "x")
      await service.kill()
      await service.start()
    }
    const job = await service.ended(body.id)
    expect(job).toMatchObject({ status: "failed", error: { tag: "Orphaned", retryable: false } })
    expect(job.error.detail).toContain("ran alone")
    expect(job.attempts.map(({ outcome }: Json) => outcome)).toEqual(["orphaned", "orphaned", "orphaned"])
    expect(job.attempts.map(({ alone = false }: Json) => alone)).toEqual([false, false, true])
    expect(job.output.text).toBe("x")
  })

  it("whenever one job runs ends that job after three times, and none of those that ran beside it", async () => {
    await startService({ OFFLOAD_PERMITS: "4" })
    const file = join(service.data, "go")
    const submit = async (text: string) =>
      (await service.submit(JSON.stringify({ text, until: file }), { maxAttempts: 1 })).body.id
    const jobs = [await submit("a"), await submit("b"), await submit("c"), await submit("d")]
    for (let round = 1; round <= 2; round++) {
      await waitUntil(() => alive() === 4)
      await service.kill()
      await service.start()
    }
    // Which of the suspects is tried first is decided by their backoffs.
    await waitUntil(() => alive() === 1)
    const [culprit = "", ...others] = jobs.filter((id) => processesWith(`${id}.3`).length > 0)
    expect(others).toEqual([])
    await service.kill()
    await service.start()
    expect(await service.ended(culprit)).toMatchObject({ status: "failed", error: { tag: "Orphaned" } })
    writeFileSync(file, "")
    for (const id of jobs.filter((id) => id !== culprit)) {
      const job = await service.ended(id)
      expect(job.status).toBe("succeeded")
      expect(job.attempts.map(({ outcome }: Json) => outcome)).toEqual(["orphaned", "orphaned", "succeeded"])
    }
    // And then as many as before run at once.
    const again = join(service.data, "again")
    for (const text of ["e", "f", "g", "h"]) await service.submit(JSON.stringify({ text, until: again }))
    await waitUntil(() => alive() === 4)
    writeFileSync(again, "")
  })
})

describe("SIGTERM", () => {
  it.each(["auto", "group"])(
    "that kill -9 follows before the drain is done costs no attempt, with containment %s",
    async (mode) => {
      await startService({ OFFLOAD_DRAIN_SECONDS: "60", OFFLOAD_CONTAINMENT: mode })
      const file = join(service.data, "go")
      const { body } = await service.submit(JSON.stringify({ text: "x", until: file }), { maxAttempts: 1 })
      for (let round = 0; round < 2; round++) {
        await waitUntil(() => alive() === 1)
        const exit = service.stop()
        await waitUntil(async () => (await service.call("GET", "/health/ready")).status === 503)
        // It says so when the drain is noted in the store.
        await waitUntil(() => service.log.split("draining").length - 1 > round)
        await service.kill()
        expect(await exit).toBe(null)
        await service.start()
      }
      // The first one is a deploy; from the second one in a row on the job waits.
      const waiting = (await service.call("GET", `/jobs/${body.id}`)).body
      expect(waiting.attempts.map(({ outcome }: Json) => outcome)).toEqual(["interrupted", "interrupted"])
      expect(Date.parse(waiting.retryAt) - Date.parse(waiting.attempts[1].finishedAt)).toBeGreaterThan(4900)
      writeFileSync(file, "")
      const job = await service.ended(body.id)
      expect(job.attempts.map(({ outcome }: Json) => outcome)).toEqual(["interrupted", "interrupted", "succeeded"])
    },
  )

  it("is not ready at once, lets short work finish, hands back the rest, and exits 0, also where it comes twice at once", async () => {
    await startService({ OFFLOAD_DRAIN_SECONDS: "6" })
    const file = (name: string) => join(service.data, name)
    const short = (await service.submit(JSON.stringify({ text: "short", until: file("short") }))).body
    const long = (await service.submit(JSON.stringify({ text: "long", until: file("long") }), { maxAttempts: 1 })).body
    const waiting = (await service.submit(JSON.stringify({ text: "waiting" }))).body
    await waitUntil(() => alive() === 2)
    const stream = await fetch(`${service.url}/jobs/${waiting.id}/events`)
    const exit = service.stop()
    // A terminal and npm tell it twice.
    service.signal("SIGINT")
    service.signal("SIGTERM")
    await waitUntil(async () => (await service.call("GET", "/health/ready")).status === 503)
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
