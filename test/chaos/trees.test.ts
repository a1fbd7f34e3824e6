/**
 * Promises 3, 4 and 5, on trees that do not want to end: `cancelled` means that all of a tree is gone, within the grace
 * and a second; nothing of a tree outlives a kill -9 of the service by a second; an orphan that could not be ended with
 * the service is ended before its place is given away.
 */
import { afterEach, expect, it } from "vitest"
import { type Json, Service, waitUntil } from "../e2e/Service.js"
import { fastest } from "../fastest.js"
import { scale, sleep } from "./Chance.js"
import { Lives, monotonic, most } from "./Lives.js"

const graceMillis = 1000

let service: Service
let lives: Lives
afterEach(async () => {
  await service?.dispose()
  lives?.dispose()
})

const start = async (containment: string, permits = 4) => {
  lives = new Lives()
  service = await new Service({
    ...lives.env,
    OFFLOAD_CONTAINMENT: containment,
    OFFLOAD_PERMITS: String(permits),
    OFFLOAD_KILL_GRACE_SECONDS: String(graceMillis / 1000),
    OFFLOAD_MAX_ATTEMPTS: "100",
  }).start()
  return service.log.includes("held together by a namespace")
}

/** A job whose tree is alive as a whole. */
const grow = async (tree: string): Promise<string> => {
  const { body } = await service.submit(JSON.stringify({ text: "x", millis: 600_000, tree }))
  await isUp(body.id, tree, 1)
  return body.id
}

const isUp = (id: string, tree: string, attempt: number) =>
  waitUntil(() => {
    const up = lives.of(id).filter((life) => life.attempt === attempt)
    return ["main", "child", "daemon"].every((who) =>
      up.some((life) => life.who === who || !`main ${tree}`.includes(who)),
    )
  })

/** When any process of a job was last heard of, in the monotonic clock. */
const last = (id: string) => Math.max(...lives.of(id).map(({ to }) => to))

it.each(["auto", "group"])("what is cancelled is gone, with containment %s", async (containment) => {
  await start(containment)
  await Promise.all(
    ["", "child", "stubborn child", "stubborn child daemon"].map(async (tree) => {
      const id = await grow(tree)
      const answer = await service.call("POST", `/jobs/${id}/cancel`)
      let job: Json = answer.body
      let told = monotonic()
      await waitUntil(async () => {
        job = (await service.call("GET", `/jobs/${id}`)).body
        told = monotonic()
        return job.status !== "running"
      })
      expect(job).toMatchObject({ status: "cancelled", attempts: [{ outcome: "cancelled" }] })
      await sleep(300)
      expect(last(id)).toBeLessThan(told)
    }),
  )
  const millis = await fastest(graceMillis + 1000, async () => {
    const id = await grow("stubborn child daemon")
    const asked = monotonic()
    await service.call("POST", `/jobs/${id}/cancel`)
    await waitUntil(async () => (await service.call("GET", `/jobs/${id}`)).body.status === "cancelled")
    return last(id) - asked
  })
  expect(millis).toBeLessThan(graceMillis + 1000)
})

it.each([
  ["auto", "stubborn child daemon"],
  ["group", "stubborn child"],
])("nothing outlives a kill -9 of the service by a second, with containment %s", async (containment, tree) => {
  const isNamespace = await start(containment, 1)
  const mortal = containment === "group" || isNamespace ? tree : "stubborn child"
  const id = await grow(mortal)
  let attempt = 1
  const millis = await fastest(1000, async () => {
    await service.kill()
    const killed = monotonic()
    await sleep(1500)
    const lived = last(id) - killed
    await service.start()
    await isUp(id, mortal, ++attempt)
    return lived
  })
  expect(millis).toBeLessThan(1000)
  expect(most(lives.read())).toHaveLength(1)
})

it("an orphan in a session of its own is ended before another attempt begins", async () => {
  await start("group", 1)
  const id = await grow("stubborn child daemon")
  for (let attempt = 2; attempt <= scale(2, 10); attempt++) {
    await service.kill()
    await service.start()
    await isUp(id, "child daemon", attempt)
  }
  expect(most(lives.read())).toHaveLength(1)
})
