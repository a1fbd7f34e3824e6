/**
 * A port of loopback that nobody listens on. Not one of those that the system gives to outgoing connections: it must
 * still be free when its server comes back to it.
 */
import { createServer } from "node:net"

export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000)
    if (await isFree(port)) return port
  }
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
      .once("error", () => resolve(false))
      .listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
  })
