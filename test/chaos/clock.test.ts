/**
 * The wall clock is set, forwards and backwards, in the middle of everything: nothing is lost, begun twice or ended
 * twice.
 */
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, expect, it } from "vitest"
import { type Json, Service, waitUntil } from "../e2e/Service.js"
import { makeChance, scale, sleep } from "./Chance.js"
import { Ledger } from "./Ledger.js"
import { Lives } from "./Lives.js"
import { load } from "./load.js"

/** Where Debian's package `faketime` has it, by architecture. */
const library = ["x86_64", "aarch64"]
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketimeMT.so.1`)
  .find((file) => existsSync(file))
if (library === undefined) console.info("skipped: no libfaketime on this machine, so that its clock cannot be set")

let service: Service
let lives: Lives
afterEach(async () => {
  await service?.dispose()
  lives?.dispose()
})

/** A service whose wall clock is set by the seconds that it is given, and whose monotonic one is the machine's. */
const startWithClock = async (env: Readonly<Record<string, string>>) => {
  service = new Service({
    ...env,
    LD_PRELOAD: library ?? "",
    FAKETIME_NO_CACHE: "1",
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
    DONT_FAKE_MONOTONIC: "1",
  })
  const file = join(service.data, "clock")
  const set = (seconds: number) => writeFileSync(file, `${seconds >= 0 ? "+" : ""}${seconds}\n`)
  set(0)
  const start = () => service.start({ FAKETIME_TIMESTAMP_FILE: file })
  await start()
  return { set, start }
}

it.skipIf(library === undefined).each([false, true])(
  "a backoff that runs when the clock is set back by an hour takes its own time once more; over a restart: %s",
  async (restarts) => {
    lives = new Lives()
    const base = 4
    const { set, start } = await startWithClock({
      ...lives.env,
      OFFLOAD_RETRY_BASE_SECONDS: String(base),
      OFFLOAD_RETRY_MAX_SECONDS: String(base),
    })
    const work = JSON.stringify({ tag: "a", text: "x", exit: 1 })
    const { body } = await service.submit(work, { maxAttempts: 2 })
    await waitUntil(async () => (await service.call("GET", `/jobs/${body.id}`)).body.retryAt !== null)
    if (restarts) await service.kill()
    set(-3600)
    if (restarts) await start()
    const job = await service.ended(body.id, 90)
    expect(job.attempts.map(({ outcome }: Json) => outcome)).toEqual(["failed", "failed"])
    expect(service.log).toContain("the clock was set back")
    // By the clock that was set, the next attempt began at most one spread backoff after that.
    const [first, second] = job.attempts
    expect(Date.parse(first.finishedAt) - Date.parse(second.startedAt)).toBeGreaterThan(3_000_000)
  },
)

it.skipIf(library === undefined)(
  "the clock is set again and again",
  async () => {
    const chance = makeChance()
    lives = new Lives()
    const { set, start } = await startWithClock(lives.env)
    const ledger = new Ledger(service)
    const steps = [-86_400, 3600, -5, 86_400, -3600, 5, 0]
    const first = chance.whole(0, steps.length)
    const failing = { text: "x", exit: 1 }
    const stopLoad = load(ledger, chance)
    for (let round = 0; round < scale(4, 60); round++) {
      // One that is in its backoff when the clock is set.
      await ledger.submit(failing, { maxAttempts: 3 })
      await sleep(chance.between(0, 800))
      set(steps[(first + round) % steps.length] ?? 0)
      if (chance.is(0.2)) {
        await service.kill()
        await start()
      }
    }
    await stopLoad()
    // A backoff ends when the clock says so, whatever it said before.
    set(172_800)
    expect(await ledger.problems(() => lives.read(), 2, scale(120, 900))).toEqual([])
    // It was really set.
    const hours = (await ledger.list()).map(({ createdAt }) => Math.floor(Date.parse(createdAt) / 3_600_000))
    expect(new Set(hours).size).toBeGreaterThan(1)
  },
  scale(240_000, 1_200_000),
)
