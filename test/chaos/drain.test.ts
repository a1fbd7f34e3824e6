/**
 * Promise 8: SIGTERM in the middle of everything. Not ready from then on, exit 0, and what was cut off costs its job no
 * attempt: here each of them has but one.
 */
import { afterEach, expect, it } from "vitest"
import { Service, waitUntil } from "../e2e/Service.js"
import { type Chance, makeChance, scale, sleep } from "./Chance.js"
import { Ledger } from "./Ledger.js"
import { Lives } from "./Lives.js"
import { load } from "./load.js"

let service: Service
let lives: Lives
afterEach(async () => {
  await service?.dispose()
  lives?.dispose()
})

/** A caller who asks again and again whether the service is ready; tells what it was told, each change once. */
const watchReadiness = (isOver: () => boolean) => {
  const url = service.url
  const told: Array<string> = []
  const watching = (async () => {
    while (!isOver()) {
      const now = await fetch(`${url}/health/ready`).then(
        ({ status }) => String(status),
        () => "gone",
      )
      if (told.at(-1) !== now) told.push(now)
      await sleep(5)
    }
  })()
  return async () => {
    await watching
    return told.join(" ")
  }
}

/** Streams and waits that are open when the end comes. */
const listen = (ids: ReadonlyArray<string>) =>
  ids.map((id) => fetch(`${service.url}/jobs/${id}/events`).then((response) => response.text()))

const round = async (ledger: Ledger, chance: Chance) => {
  await sleep(chance.between(0, 1000))
  const running = await service.call("GET", "/jobs?limit=10")
  const open = listen(running.body.jobs.map(({ id }: { id: string }) => id))
  let isOver = false
  const readiness = watchReadiness(() => isOver)
  await waitUntil(async () => (await service.call("GET", "/health/ready")).status === 200)
  const exit = service.stop()
  // Once more, and the other signal, change nothing.
  if (chance.is(0.5)) service.signal(chance.one(["SIGTERM", "SIGINT"]))
  expect(await exit).toBe(0)
  await Promise.allSettled(open)
  isOver = true
  expect(await readiness()).toMatch(/^(200 )?(503 |gone )*gone$/)
  await service.start({ OFFLOAD_DRAIN_SECONDS: String(chance.one([0, 0.5, 1])) })
  await ledger.list()
}

it(
  "SIGTERM during everything",
  async () => {
    const chance = makeChance()
    lives = new Lives()
    service = await new Service({
      ...lives.env,
      OFFLOAD_DRAIN_SECONDS: "0",
    }).start()
    const ledger = new Ledger(service)
    const stopLoad = load(ledger, chance, { maxAttempts: 1 })
    for (let n = 0; n < scale(2, 50); n++) await round(ledger, chance)
    await stopLoad()
    expect(await ledger.problems(() => lives.read(), 2, scale(150, 900))).toEqual([])
    const jobs = await ledger.list()
    expect(jobs.filter(({ status }) => status === "failed")).toEqual([])
    expect(jobs.length).toBeGreaterThan(0)
  },
  scale(240_000, 1_200_000),
)
