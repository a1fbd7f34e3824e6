/**
 * All of it at once, for as long as one says: mixed work, hostile callers, kills, stops, a disk and a Redis that are
 * full or away. `SOAK_MINUTES=60 npm run soak` goes on for an hour. It prints what can be seen from outside; the checker of the chaos
 * tests has the last word.
 */
import { describe, expect, it } from "vitest"
import { makeChance, sleep } from "../chaos/Chance.js"
import { Ledger } from "../chaos/Ledger.js"
import { Lives } from "../chaos/Lives.js"
import { load } from "../chaos/load.js"
import { waitUntil } from "../e2e/Service.js"
import { hasRedis } from "../Store/redisServer.js"
import { as } from "./Caller.js"
import { Gauges, type Report } from "./Gauges.js"
import { torment } from "./Hostile.js"
import { embedded, fleet, type Subject } from "./Subject.js"

/** In minutes. */
const length = Number(process.env.SOAK_MINUTES ?? 0.3)

const lineMillis = Math.min(60_000, (length * 60_000) / 3)

/** The most megabytes that a process may have: a leak or a bound that does not hold is beyond it. */
const maxMegabytes = 400
const maxDescriptors = 400

const subjects: ReadonlyArray<readonly [string, typeof embedded | typeof fleet]> = [
  ["one process with the embedded store", embedded],
  ...(hasRedis ? ([["two processes on one Redis", fleet]] as const) : []),
]

const minutesOf = (millis: number): string => {
  const seconds = Math.round(millis / 1000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`
}

const lineOf = ({ descriptors, megabytes, p50, p99, slowest }: Report): string =>
  `memory ${megabytes} MB, descriptors ${descriptors}, /health/live p50 ${p50} p99 ${p99} slowest ${slowest} ms`

const isReady = async ({ nodes }: Subject): Promise<void> => {
  for (const node of nodes) {
    await waitUntil(
      async () => (await node.call("GET", "/health/ready").catch(() => undefined))?.status === 200,
      () => `it is not ready again:\n${node.log.slice(-4000)}`,
      180,
    )
  }
}

// Side by side, so that an hour of the two of them takes an hour.
describe.concurrent("kept up under everything at once", () => {
  it.for(subjects)(
    "%s keeps every promise",
    { timeout: length * 60_000 + 900_000 },
    async ([name, make], { onTestFinished }) => {
      const chance = makeChance(name)
      const lives = new Lives()
      onTestFinished(() => lives.dispose())
      const subject = await make(lives, chance)
      onTestFinished(subject.dispose)
      const gauges = new Gauges(subject.nodes)
      onTestFinished(() => gauges.stop())
      const ledger = new Ledger(as("careful", subject.front))
      const stopLoad = load(ledger, chance)
      const stopHostile = torment(
        () => chance.one(subject.nodes as [(typeof subject.nodes)[number]]),
        chance,
        () => ledger.accepted.keys().next().value,
      )

      const made = new Map<string, number>()
      const faults = Object.entries(subject.faults)
      const began = performance.now()
      const most = { megabytes: 0, descriptors: 0 }
      let said = began
      const say = () => {
        const report = gauges.take()
        most.megabytes = Math.max(most.megabytes, report.megabytes)
        most.descriptors = Math.max(most.descriptors, report.descriptors)
        said = performance.now()
        const { accepted, open, unanswered } = ledger
        const jobs = `jobs ${accepted.size}, open ${open.length}, unanswered ${unanswered}`
        console.info(`soak: ${name}, ${minutesOf(said - began)}: ${jobs}; ${lineOf(report)}`)
      }
      for (let round = 0; performance.now() - began < length * 60_000; round++) {
        await sleep(chance.between(500, 4000))
        const [kind, fault] = faults[round % faults.length] ?? []
        gauges.faults++
        await fault?.()
        await isReady(subject)
        gauges.faults--
        made.set(kind ?? "", (made.get(kind ?? "") ?? 0) + 1)
        if (performance.now() - said > lineMillis) say()
      }
      await stopLoad()
      const wrong = await stopHostile()
      const problems = [...wrong, ...(await ledger.problems(() => lives.read(), 2, 600))]
      say()
      console.info(`soak: ${name}: faults ${[...made].map(([kind, times]) => `${kind} ${times}`).join(", ")}`)
      console.info(`soak: ${name}: refused with ${[...ledger.refusals].join(", ")}`)
      console.info(`soak: ${name}: the checker found ${problems.length === 0 ? "nothing" : problems.join("; ")}`)
      expect(problems).toEqual([])
      expect(most.megabytes).toBeLessThan(maxMegabytes)
      expect(most.descriptors).toBeLessThan(maxDescriptors)
      expect(ledger.accepted.size).toBeGreaterThan(0)
    },
  )
})
