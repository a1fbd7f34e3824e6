/**
 * A story of the service: what clients ask of it, what befalls its processes and its store, and what must be true at
 * the end whatever that was.
 */
import { deepStrictEqual, ok } from "node:assert/strict"
import { setImmediate } from "node:timers/promises"
import { Effect, Exit } from "effect"
import { isTerminal, type JobId } from "../../src/Job.js"
import type { Entry } from "../../src/Offload/Spool.js"
import * as KvStore from "../../src/Store/KvStore.js"
import * as Memory from "../../src/Store/Memory.js"
import { type Fault, faults } from "./FaultyStore.js"
import * as Process from "./Process.js"
import * as VirtualClock from "./VirtualClock.js"

export type Turn =
  | { readonly turn: "submit"; readonly script: Process.Script; readonly maxAttempts: number }
  | { readonly turn: "cancel"; readonly which: number }
  | { readonly turn: "outage"; readonly millis: number }
  /** `outageMillis`: the store goes away as it begins. */
  | { readonly turn: "drain"; readonly outageMillis: number }
  | { readonly turn: "kill" | "wait" }

export interface Story {
  readonly turns: ReadonlyArray<{ readonly after: number; readonly what: Turn }>
  /** How many of the store's answers go wrong. */
  readonly rate: number
  readonly seed: number
}

/** https://github.com/cprosche/mulberry32 */
const random = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const hour = 60 * 60 * 1000

/** What says that nobody knows whether it was done. */
const unclear: ReadonlyArray<string> = ["StoreError", "MaybeSaved"]

export const tell = async ({ rate, seed, turns }: Story): Promise<void> => {
  const time = VirtualClock.make()
  const kv = Memory.makeKv()
  const open = () => Effect.runPromise(KvStore.make(kv, "memory"))
  const chance = random(seed)
  const attempts: Process.Attempts = { emitted: new Map(), spooled: [], most: 0 }
  const spooled = new Map<string, Entry>()
  let outageUntil = 0
  let faulty = true
  const next = (): Fault => {
    if (!faulty) return "none"
    if (time.now() < outageUntil) return chance() < 0.5 ? "before" : "hang"
    return chance() < rate ? (faults[Math.floor(chance() * faults.length)] ?? "none") : "none"
  }

  /** Lets time pass until it is so, and everything that happens meanwhile. */
  const until = async (isSo: () => boolean | Promise<boolean>, limit = time.now() + hour): Promise<boolean> => {
    for (;;) {
      for (let n = 0; n < 3; n++) await setImmediate()
      if (await isSo()) return true
      if (!time.wakeNext(limit)) return false
    }
  }
  const during = async <A>(promise: Promise<A>): Promise<A> => {
    let done = false
    const settled = promise.finally(() => {
      done = true
    })
    ok(await until(() => done), "it ends within an hour")
    return await settled
  }

  const start = async () => Process.start(time, await open(), next, attempts, spooled)
  let current = await during(start())
  let busy = 0
  const client = time.process()
  const pause = (millis: number) => Effect.runPromise(Effect.withClock(Effect.sleep(millis), client.clock))

  /** Asks until there is an answer, of one process or the next, as a client does. */
  const ask = async <A, E extends { readonly _tag: string }>(
    what: (offload: Process.Process["offload"]) => Effect.Effect<A, E>,
  ): Promise<Exit.Exit<A, E>> => {
    busy++
    for (;;) {
      const { gone, offload, run } = current
      const exit = await Promise.race([run(what(offload)), gone])
      const isUnclear =
        exit === "gone" ||
        (Exit.isFailure(exit) && exit.cause._tag === "Fail" && unclear.includes(exit.cause.error._tag))
      if (exit !== "gone" && !isUnclear) {
        busy--
        return exit
      }
      await pause(200)
    }
  }

  const accepted: Array<{ readonly id: JobId; readonly script: Process.Script }> = []
  let keys = 0
  const submit = async (script: Process.Script, maxAttempts: number) => {
    const key = `key ${++keys}`
    const once = () =>
      ask((offload) =>
        offload.submit({
          caller: "ada",
          input: { prompt: JSON.stringify(script) },
          metadata: {},
          maxAttempts,
          idempotency: { key, fingerprint: "f" },
        }),
      )
    const exit = await once()
    if (Exit.isFailure(exit)) throw new Error(String(exit.cause))
    const { id } = exit.value.snapshot.job
    accepted.push({ id, script })
    // One who did not get the answer asks again.
    const again = await once()
    deepStrictEqual(Exit.isSuccess(again) && again.value.snapshot.job.id, id)
  }
  const submitted: Array<Promise<void>> = []
  const cancel = (id: JobId) => ask((offload) => offload.cancel(id))

  for (const { after, what } of turns) {
    const at = time.now() + after
    await until(() => false, at)
    switch (what.turn) {
      case "submit":
        submitted.push(submit(what.script, what.maxAttempts))
        break
      case "cancel": {
        const job = accepted[what.which % accepted.length]
        if (job !== undefined) submitted.push(cancel(job.id).then(() => {}))
        break
      }
      case "outage":
        outageUntil = time.now() + what.millis
        break
      case "kill":
        current.kill()
        current = await during(start())
        break
      case "drain":
        outageUntil = Math.max(outageUntil, time.now() + what.outageMillis)
        await during(current.drain())
        current = await during(start())
    }
  }

  await during(Promise.all(submitted))
  faulty = false
  for (const { id, script } of accepted) if (script.ends === "never") await during(cancel(id))
  const store = await open()
  const read = <A, E>(effect: Effect.Effect<A, E>) => Effect.runPromise(effect)
  const isQuiet = async () =>
    (await Promise.all(accepted.map(({ id }) => read(store.get(id))))).every(({ status }) => isTerminal(status))
  const ended = await until(isQuiet)
  const jobs = (await read(store.list({ caller: "ada", limit: 1000 }))).jobs
  const states = jobs.map(({ attempts, status }) => `${status}: ${attempts.map(({ outcome }) => outcome)}`)
  ok(ended, `every job ends within an hour; ${states.join("; ")}`)
  deepStrictEqual(jobs.map(({ id }) => id).sort(), accepted.map(({ id }) => id).sort(), "one job for each submission")

  const hasDied = turns.some(({ what }) => what.turn === "kill" || what.turn === "drain")
  for (const job of jobs) {
    const outcomes = job.attempts.map(({ outcome }) => outcome)
    ok(hasDied || !outcomes.includes("orphaned"), "a process that lives loses no attempt of its own")
    const { events } = await read(store.events(job.id, 0))
    deepStrictEqual(
      events.map(({ event }) => event),
      events.map((_, n) => n + 1),
    )
    const ends = events.filter((event) => event.type === "status" && isTerminal(event.status))
    deepStrictEqual(ends, events.slice(-1), "one end, and nothing after it")
    const output = await read(store.output(job.id))
    const emitted = attempts.emitted.get(`${job.id}.${job.attempt}`) ?? ""
    // What a process had not stored when it was killed is gone with it.
    if (job.attempts.at(-1)?.outcome === "orphaned") ok(emitted.startsWith(output))
    else deepStrictEqual(output, emitted)
    if (job.status === "succeeded") deepStrictEqual(job.attempts.at(-1)?.outcome, "succeeded")
  }
  for (const { attempt, id, outcome } of attempts.spooled) {
    const job = jobs.find((job) => job.id === id)
    if (outcome._tag === "Succeeded") deepStrictEqual(job?.attempts[attempt - 1]?.outcome, "succeeded")
  }
  ok(attempts.most <= Process.permits, "no more at once than there are permits")

  // Every permit has come back: as many jobs run at once as there are.
  attempts.most = 0
  const script: Process.Script = { pieces: 2, pauseMillis: 500, ends: "well" }
  await during(Promise.all(Array.from({ length: Process.permits + 1 }, () => submit(script, 1))))
  ok(await until(isQuiet), "jobs run afterwards")
  deepStrictEqual(attempts.most, Process.permits)
  const records = jobs.map((job) => JSON.stringify(job)).sort()
  const now = await Promise.all(jobs.map(async ({ id }) => JSON.stringify(await read(store.get(id)))))
  deepStrictEqual(now.sort(), records, "what had ended has not changed")
  current.kill()
  deepStrictEqual(busy, 0)
}
