/** Waiting, and ports. */
import { createServer } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"

export { sleep }

/** Waits for a condition, and fails with a reason when it does not come about. */
export const until = async (condition, reason = () => "it did not come about", { seconds = 60, every = 10 } = {}) => {
  const end = Date.now() + seconds * 1000
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`${reason()} (within ${seconds} s)`)
    await sleep(every)
  }
}

/** A port of loopback that nobody listens on. */
export const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
