/**
 * One request in work on each connection. Those that a client sends before it has its answer wait: unread in the socket,
 * but for what Node has read already, which parses all that is in a chunk.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http"
import type { Socket } from "node:net"

/** How many parsed requests may wait, of all connections together: some 5 KB each. */
const maxWaiting = 10_000

/** What is in work on one connection, and what waits behind it. */
interface Turns {
  readonly request: IncomingMessage
  readonly behind: Behind | null
}

interface Behind {
  readonly waiting: Array<readonly [IncomingMessage, ServerResponse]>
  /** Reads nothing more until it is empty; whatever else would have the socket read. */
  readonly hold: () => void
}

/** A listener that takes the requests of a connection in turn. */
export interface Pipeline {
  readonly listener: RequestListener
  /**
   * What a connection is in the middle of: `answer`, with a request that has come whole; `held`, where requests behind it
   * wait in the socket too; `null`, where what Node has to say of a request may be written.
   */
  readonly middleOf: (socket: Socket) => "answer" | "held" | null
}

/** Hands on a connection's next request when the answer to the one before has been handed over. */
export const make = (listener: RequestListener): Pipeline => {
  const busy = new Map<Socket, Turns>()
  let waiting = 0

  const begin = (socket: Socket, request: IncomingMessage, response: ServerResponse, behind: Behind | null): void => {
    busy.set(socket, { request, behind })
    response.once("close", () => next(socket, busy.get(socket)?.behind ?? null))
    listener(request, response)
  }

  const next = (socket: Socket, behind: Behind | null): void => {
    const found = socket.writable ? behind?.waiting.shift() : undefined
    if (found !== undefined) waiting--
    const isOver = behind !== null && (found === undefined || behind.waiting.length === 0)
    if (isOver) {
      waiting -= behind.waiting.length
      socket.off("resume", behind.hold)
      // The last of them may have the rest of its body in the socket.
      socket.resume()
    }
    if (found === undefined) busy.delete(socket)
    else begin(socket, ...found, isOver ? null : behind)
  }

  const hold = (socket: Socket, request: IncomingMessage): Behind => {
    const behind: Behind = { waiting: [], hold: () => socket.pause() }
    busy.set(socket, { request, behind })
    // Node resumes it for each body that has been read.
    socket.on("resume", behind.hold)
    socket.pause()
    return behind
  }

  const take: RequestListener = (request, response) => {
    const { socket } = request
    const turns = busy.get(socket)
    if (turns === undefined) begin(socket, request, response, null)
    else if (waiting >= maxWaiting) socket.destroy()
    else {
      waiting++
      const { waiting: queue } = turns.behind ?? hold(socket, turns.request)
      queue.push([request, response])
    }
  }

  const middleOf: Pipeline["middleOf"] = (socket) => {
    const turns = busy.get(socket)
    if (turns === undefined || !turns.request.complete) return null
    return turns.behind === null ? "answer" : "held"
  }

  return { listener: take, middleOf }
}
