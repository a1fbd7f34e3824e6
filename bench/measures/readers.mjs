/** Thousands of readers of a job's events, which no peer has. */
import { Agent, get } from "node:http"
import { submit } from "../machine/load.mjs"
import { sleep, until } from "../machine/wait.mjs"
import { Server } from "../server.mjs"

const open = (url, agent, onText) =>
  new Promise((resolve, reject) => {
    const call = get(url, { agent }, (response) => {
      response.setEncoding("utf8").on("data", onText)
      response.on("error", () => {})
      resolve(() => call.destroy())
    })
    call.on("error", reject)
  })

export const readers = {
  title: "2,000 readers of one job's events",
  columns: [
    { key: "opened", title: "s until all are open" },
    { key: "memory", title: "RSS KB a reader" },
    { key: "told", title: "ms from the job's end until all know" },
    { key: "left", title: "max ms of the loop's delay while all go away at once" },
  ],
  takesPart: ({ argv }) => argv[1].endsWith("main.js"),
  run: async (contender, { program, short }) => {
    const amount = short ? 50 : 2000
    const server = await Server.start(contender, { program, hold: true, measuresLoop: true })
    const agent = new Agent({ maxSockets: Number.POSITIVE_INFINITY })
    try {
      await submit(server.url, { connections: 1, amount: 2 })
      const created = await fetch(`${server.url}/jobs`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: '{"prompt":"Why is the sky blue?"}',
      })
      const job = `${server.url}${created.headers.get("location")}`
      let done = 0
      const since = performance.now()
      const before = server.rss()
      const closers = await Promise.all(
        Array.from({ length: amount }, () =>
          open(`${job}/events`, agent, (text) => {
            if (text.includes("event: done")) done++
          }),
        ),
      )
      const opened = (performance.now() - since) / 1000
      await sleep(500)
      const memory = ((server.rss() - before) * 1024) / amount

      // Half of them go away while the job waits; the others hear of its end.
      await server.loopDelay()
      for (const close of closers.splice(0, amount / 2)) close()
      await sleep(1000)
      const { max: left } = await server.loopDelay()
      const asked = performance.now()
      await fetch(`${job}/cancel`, { method: "POST" })
      await until(
        () => done >= amount / 2,
        () => `${done} of ${amount / 2} were told`,
      )
      return { opened, memory, told: performance.now() - asked, left }
    } finally {
      agent.destroy()
      await server.stop()
    }
  },
}
