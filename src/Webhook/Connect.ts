/**
 * A connection to one of several addresses (RFC 8305, "Happy Eyeballs"): they are tried one shortly after the other,
 * and the first that answers is taken. One that is silent delays the next by no more than a moment.
 */
import { connect, type Socket } from "node:net"
import { Effect, type Scope } from "effect"
import type { Address } from "./Names.js"
import type { Unresolved } from "./Resolve.js"

/** How long an address is tried before the next one is tried beside it, in milliseconds. */
const headStartMillis = 250

/** So many are tried: a name may have hundreds. */
const maxAddresses = 8

/** The families take turns, so that the second try is of the other one. */
export const inTurn = (addresses: ReadonlyArray<Address>): ReadonlyArray<Address> => {
  const [first] = addresses
  const same = addresses.filter(({ family }) => family === first?.family)
  const other = addresses.filter(({ family }) => family !== first?.family)
  return same
    .flatMap((address, n) => [address, ...other.slice(n, n + 1)])
    .concat(other.slice(same.length))
    .slice(0, maxAddresses)
}

/** All sockets that are open for one connection. */
const makeAttempts = (addresses: ReadonlyArray<Address>, port: number) => {
  const open = new Set<Socket>()
  const waiting = [...inTurn(addresses)]
  let timer: NodeJS.Timeout | undefined
  let isOver = false

  const destroyAll = (but?: Socket) => {
    isOver = true
    clearTimeout(timer)
    for (const socket of open) if (socket !== but) socket.destroy()
  }

  const begin = (onConnect: (socket: Socket) => void, onFail: (code: string) => void) => {
    let code = "ENOTFOUND"
    const next = () => {
      clearTimeout(timer)
      const address = waiting.shift()
      if (address === undefined) {
        if (open.size === 0) onFail(code)
        return
      }
      const socket = connect({ host: address.address, port, family: address.family, noDelay: true })
      open.add(socket)
      // It stays for as long as the socket lives: unheard, an error would end the process.
      socket.on("error", (error) => {
        open.delete(socket)
        code = "code" in error ? String(error.code) : error.name
        if (!isOver) next()
      })
      socket.once("connect", () => {
        if (isOver) return
        destroyAll(socket)
        onConnect(socket)
      })
      if (waiting.length > 0) timer = setTimeout(next, headStartMillis)
    }
    next()
  }
  return { begin, destroyAll }
}

/** Connects to one of these addresses, and to no other. The connection ends with the scope. */
export const connectTo = (
  addresses: ReadonlyArray<Address>,
  port: number,
): Effect.Effect<Socket, Unresolved, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => makeAttempts(addresses, port)),
    ({ destroyAll }) => Effect.sync(() => destroyAll()),
  ).pipe(
    Effect.flatMap(({ begin }) =>
      Effect.async<Socket, Unresolved>((resume) => {
        begin(
          (socket) => resume(Effect.succeed(socket)),
          (code) => resume(Effect.fail({ code })),
        )
      }),
    ),
  )
