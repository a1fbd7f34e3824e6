/** Submissions while both permits are busy and the queue grows. */
import { submit } from "../machine/load.mjs"
import { Server } from "../server.mjs"

const levels = [1, 32, 256]

const level = async (server, connections, until) => {
  const before = [server.cpu().own, server.databaseCpu()]
  const { accepted, refused, rate, p50, p99, max } = await submit(server.url, { connections, ...until })
  if (accepted === 0 || refused > 0) throw new Error(`${accepted} accepted, ${refused} not`)
  return {
    [`rate${connections}`]: rate,
    [`p50_${connections}`]: p50,
    [`p99_${connections}`]: p99,
    [`max${connections}`]: max,
    [`cpu${connections}`]: (server.cpu().own - before[0]) / accepted,
    [`both${connections}`]: (server.cpu().own - before[0] + server.databaseCpu() - before[1]) / accepted,
  }
}

export const accept = {
  title: "Accepting jobs, both permits busy, the queue growing",
  columns: levels.flatMap((connections) => [
    { key: `rate${connections}`, title: `jobs/s at ${connections}` },
    { key: `cpu${connections}`, title: `CPU µs a job at ${connections}` },
    { key: `both${connections}`, title: `the same with redis-server` },
    { key: `p50_${connections}`, title: `p50 ms at ${connections}` },
    { key: `p99_${connections}`, title: `p99 ms at ${connections}` },
    { key: `max${connections}`, title: `max ms at ${connections}` },
  ]),
  takesPart: ({ argv }) => !argv[1].endsWith("spawn.mjs"),
  run: async (contender, { program, short }) => {
    const server = await Server.start(contender, { program, hold: true })
    try {
      // Compilers warm up.
      await submit(server.url, { connections: 32, amount: short ? 50 : 6000 })
      const found = {}
      for (const connections of levels) {
        Object.assign(found, await level(server, connections, short ? { amount: 300 } : { seconds: 4 }))
      }
      return found
    } finally {
      await server.stop()
    }
  },
}
