/** What a queue costs as it grows, and how long a killed service takes to come back to it. */
import { submit } from "../machine/load.mjs"
import { sleep, until } from "../machine/wait.mjs"
import { Server } from "../server.mjs"

const sizes = ({ short }) => (short ? [100, 300] : [1000, 10_000, 100_000])

/** How many jobs the costs are measured over. */
const samples = ({ short }) => (short ? { accepted: 50, finished: 6 } : { accepted: 2000, finished: 300 })

const acceptCost = async (server, amount) => {
  const before = server.cpu().own
  const { accepted } = await submit(server.url, { connections: 32, amount })
  return (server.cpu().own - before) / accepted
}

const finishCost = async (server, amount) => {
  const ended = () => server.children.times().ends.length
  const [before, first] = [server.cpu().own, ended()]
  server.children.release()
  await until(() => ended() >= first + amount, undefined, { seconds: 120, every: 20 })
  server.children.hold()
  await sleep(200)
  return (server.cpu().own - before) / (ended() - first)
}

const recovery = async (server) => {
  await server.kill()
  server.children.release()
  const started = () => server.children.times().starts.length
  const first = started()
  const since = performance.now()
  server.launch()
  await until(() => started() > first, undefined, { seconds: 180, every: 5 })
  return (performance.now() - since) / 1000
}

export const waiting = {
  title: "As the queue grows",
  once: true,
  columns: [1000, 10_000, 100_000]
    .flatMap((size) => [
      { key: `rss${size}`, title: `RSS MB at ${size}` },
      { key: `mapped${size}`, title: `of which files, mapped, at ${size}` },
      { key: `accept${size}`, title: `accept CPU µs at ${size}` },
      { key: `finish${size}`, title: `finish CPU µs at ${size}` },
    ])
    .concat({ key: "recovery", title: "s from a start with 100,000 waiting to the first child" }),
  takesPart: ({ jobs }) => jobs,
  run: async (contender, options) => {
    const { accepted, finished } = samples(options)
    // At a poll of half a second each would take too long.
    const finishes = contender.keeps !== "postgres"
    const server = await Server.start(contender, { program: options.program, hold: true })
    let now = 0
    const fill = async (size) => {
      await submit(server.url, { connections: 32, amount: size - now })
      now = size
    }
    const finish = async () => {
      const ended = server.children.times().ends.length
      const cost = await finishCost(server, finished)
      now -= server.children.times().ends.length - ended
      return cost
    }
    try {
      // Compilers warm up, on both paths.
      await fill(sizes(options)[0])
      if (finishes) await finish()
      await submit(server.url, { connections: 32, amount: accepted })
      now += accepted
      if (finishes) await finish()

      const found = {}
      for (const size of sizes(options)) {
        if (size > now) await fill(size)
        await sleep(options.short ? 100 : 2000)
        found[`rss${size}`] = server.rss()
        found[`mapped${size}`] = server.mapped()
        found[`accept${size}`] = await acceptCost(server, accepted)
        now += accepted
        if (finishes) found[`finish${size}`] = await finish()
      }
      if (contender.recovers && finishes) found.recovery = await recovery(server)
      return found
    } finally {
      await server.stop()
    }
  },
}
