/** Whether it still answers while many jobs wait and some of them end. */
import { get, submit } from "../machine/load.mjs"
import { sleep } from "../machine/wait.mjs"
import { Server } from "../server.mjs"

export const live = {
  title: "While 10,000 jobs wait and jobs of 20 ms end",
  columns: [
    { key: "p99", title: "p99 ms of GET /health/live" },
    { key: "max", title: "max ms of GET /health/live" },
    { key: "loop99", title: "p99 ms of the event loop's delay" },
    { key: "loopMax", title: "max ms of the event loop's delay" },
  ],
  takesPart: ({ jobs }) => jobs,
  run: async (contender, { program, short }) => {
    const server = await Server.start(contender, { program, millis: 20, hold: true, measuresLoop: true })
    try {
      await submit(server.url, { connections: 32, amount: short ? 100 : 10_000 })
      server.children.release()
      await sleep(500)
      if (server.measuresLoop) await server.loopDelay()
      const { max, p99 } = await get(server.url, "/health/live", { connections: 4, seconds: short ? 1 : 5, rate: 200 })
      const delay = server.measuresLoop ? await server.loopDelay() : null
      return { p99, max, ...(delay === null ? {} : { loop99: delay.p99, loopMax: delay.max }) }
    } finally {
      await server.stop()
    }
  },
}
