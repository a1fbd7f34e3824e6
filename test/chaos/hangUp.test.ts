/**
 * A client that hangs up, at every byte of its request: either there is no job, or there is one that ends. And a client
 * that hangs up at any moment of a wait changes nothing for its job.
 */
import { connect, type Socket } from "node:net"
import { afterAll, beforeAll, expect, it } from "vitest"
import { Service } from "../e2e/Service.js"
import { isLong, makeChance, sleep } from "./Chance.js"
import { Ledger } from "./Ledger.js"
import { Lives } from "./Lives.js"

const lives = new Lives()
const service = new Service({
  ...lives.env,
  OFFLOAD_PERMITS: "2",
})
beforeAll(() => service.start())
afterAll(async () => {
  await service?.dispose()
  lives?.dispose()
})

const request = (tag: string, headers = ""): Buffer => {
  const body = JSON.stringify({ prompt: JSON.stringify({ text: "é" }), metadata: { tag } })
  return Buffer.from(
    `POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${headers}` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}

/** Sends bytes and hangs up, by a reset or by an end. What came back until then is nobody's. */
const hangUp = (bytes: Buffer, byReset: boolean, afterMillis = 0): Promise<void> =>
  new Promise((resolve) => {
    const socket: Socket = connect(Number(new URL(service.url).port), "127.0.0.1", () => {
      socket.write(bytes, async () => {
        if (afterMillis > 0) await sleep(afterMillis)
        if (byReset) socket.resetAndDestroy()
        else socket.destroy()
      })
    })
    socket.on("error", () => {})
    socket.on("close", () => resolve())
  })

it("at every byte of a request", async () => {
  const chance = makeChance()
  const ledger = new Ledger(service)
  const { length } = request(ledger.tag())
  for (const byReset of isLong ? [true, false] : [chance.is(0.5)]) {
    for (let bytes = 0; bytes <= length; bytes++) await hangUp(request(ledger.tag()).subarray(0, bytes), byReset)
  }
  const after = await service.submit(JSON.stringify({ text: "still there" }), {}, { prefer: "wait=60" })
  expect(after.body.status).toBe("succeeded")
  await service.call("DELETE", `/jobs/${after.body.id}`)
  // What was half sent is no job; what was sent whole may be one.
  expect((await ledger.list()).length).toBeLessThanOrEqual(isLong ? 2 : 1)
  expect(await ledger.problems(() => lives.read().filter(({ job }) => job !== after.body.id))).toEqual([])
})

it("at any moment after its request", async () => {
  const chance = makeChance()
  const ledger = new Ledger(service)
  const before = (await ledger.list()).length
  for (const { id } of await ledger.list()) await service.call("DELETE", `/jobs/${id}`)
  expect(before).toBeLessThanOrEqual(2)
  const count = isLong ? 400 : 40
  const moments = Array.from({ length: count }, () => chance.between(0, chance.one([2, 20, 300])))
  for (let n = 0; n < count; n += 10) {
    await Promise.all(
      moments
        .slice(n, n + 10)
        .map((millis) => hangUp(request(ledger.tag(), "Prefer: wait=60\r\n"), chance.is(0.5), millis)),
    )
  }
  expect(await ledger.problems(() => lives.read())).toEqual([])
  // The requests were whole: those that were hung up on after a moment are jobs.
  expect((await ledger.list()).length).toBeGreaterThan(0)
})
