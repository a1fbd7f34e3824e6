/** A way to a server that can be made bad: slow, cut, silent, or one that loses the answers. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net"

/**
 * - `fine`: what comes is passed on.
 * - `slow`: each piece is held back for `millis`, both ways.
 * - `cut`: connections are reset, and new ones too.
 * - `silent`: connections stay open and nothing passes (half-open).
 * - `deaf`: what is asked is passed on, and the answers are lost.
 */
export type Fault = "fine" | "slow" | "cut" | "silent" | "deaf"

export class Proxy {
  readonly #sockets = new Set<Socket>()
  readonly #hung = new WeakSet<Socket>()
  readonly #server: Server
  #fault: Fault = "fine"
  millis = 100
  /** How many pieces were lost or held back, so that a test can tell that its fault was one. */
  struck = 0

  /** `port`: of the server that new connections lead to. */
  constructor(public port: number) {
    this.#server = createServer((near) => this.#join(near))
  }

  async start(): Promise<this> {
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening))
    return this
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** What silence has lost does not come later: `fine` after `silent` or `deaf` resets what was open. */
  set fault(fault: Fault) {
    const wasLossy = this.#fault === "silent" || this.#fault === "deaf"
    this.#fault = fault
    if (fault === "cut" || wasLossy) this.#cut()
  }

  /** What is open stays open and passes nothing any more, for ever. New connections are fine. */
  hang(): void {
    for (const socket of this.#sockets) this.#hung.add(socket)
  }

  stop(): void {
    this.#cut()
    this.#server.close()
  }

  #cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  #join(near: Socket): void {
    if (this.#fault === "cut") {
      this.struck++
      near.on("error", () => {})
      near.resetAndDestroy()
      return
    }
    const far = connect(this.port, "127.0.0.1")
    const pass = (from: Socket, to: Socket, isAnswer: boolean) => {
      this.#sockets.add(from)
      // Pieces keep their order, also where the delay changes.
      let before = Promise.resolve()
      from.on("data", (chunk) => {
        const fault = this.#hung.has(from) ? "silent" : this.#fault
        if (fault !== "fine") this.struck++
        if (fault === "silent" || (fault === "deaf" && isAnswer)) return
        const wait = fault === "slow" ? this.millis : 0
        before = before.then(async () => {
          if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
          if (to.writable) to.write(chunk)
        })
      })
      from.on("error", () => to.destroy())
      from.on("close", () => {
        this.#sockets.delete(from)
        to.destroy()
      })
    }
    pass(near, far, false)
    pass(far, near, true)
  }
}
