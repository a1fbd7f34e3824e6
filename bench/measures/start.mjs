/** From the start of the process to its first 202. */
import { request } from "node:http"
import { sleep } from "../machine/wait.mjs"
import { Server } from "../server.mjs"

const post = (url) =>
  new Promise((resolve) => {
    const call = request(`${url}/jobs`, { method: "POST", headers: { "content-type": "application/json" } })
    call.on("response", (response) => resolve(response.resume().statusCode === 202))
    call.on("error", () => resolve(false))
    call.end('{"prompt":"Why is the sky blue?"}')
  })

export const start = {
  title: "Start",
  columns: [{ key: "first202", title: "ms from start to the first 202" }],
  takesPart: ({ argv }) => !argv[1].endsWith("spawn.mjs"),
  run: async (contender, { program }) => {
    const server = await Server.start(contender, { program, hold: true })
    try {
      // The second start: files are in the system's cache, and an empty database has its tables.
      await server.kill()
      const since = performance.now()
      server.launch()
      while (!(await post(server.url))) await sleep(2)
      return { first202: performance.now() - since }
    } finally {
      await server.stop()
    }
  },
}
