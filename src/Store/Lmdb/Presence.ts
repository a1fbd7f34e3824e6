/**
 * A socket in the folder at which its owner listens. The kernel closes it with the process and with nothing else: it
 * tells an owner that is held up from one that is dead, also where the one's processes are hidden from the other.
 */
import { readdirSync, rmSync } from "node:fs"
import { createConnection, createServer, type Server } from "node:net"
import { join } from "node:path"
import { Effect, Option, type Scope } from "effect"

/** What a system takes at least as the path of a socket: macOS 103 bytes, Linux 107. */
const maxPathBytes = 103

/** The kernel answers at once, whatever the owner does. */
const answerMillis = 1000

/** A socket is named for its owner: by the version of its record, and by its process. */
const pattern = /^owner-(\d+)-(\d+)\.sock$/
const nameOf = (owner: number) => `owner-${owner}-${process.pid}.sock`

interface Found {
  readonly path: string
  readonly owner: number
  readonly pid: number
}

/** In a folder that cannot be read there is nothing to be found: what opens it says why. */
const namesIn = (folder: string): ReadonlyArray<string> =>
  Option.getOrElse(Option.liftThrowable(() => readdirSync(folder))(), () => [])

const socketsOf = (folder: string): ReadonlyArray<Found> =>
  namesIn(folder).flatMap((name) => {
    const [, owner, pid] = pattern.exec(name) ?? []
    return owner === undefined ? [] : [{ path: join(folder, name), owner: Number(owner), pid: Number(pid) }]
  })

/** Listens for as long as the scope lasts. On a file system that has no sockets nothing is there to be found. */
export const listen = (folder: string, owner: number): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.async<Server>((resume) => {
        const server = createServer((socket) => socket.destroy()).unref()
        const path = join(folder, nameOf(owner))
        server.on("error", () => resume(Effect.succeed(server)))
        if (Buffer.byteLength(path) > maxPathBytes) resume(Effect.succeed(server))
        else server.listen(path, () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.async<void>((resume) => void server.close(() => resume(Effect.void))),
    ),
  )

/** Whether an owner listens; `null`: that cannot be told. */
export const isListening = (folder: string, owner: number): Effect.Effect<boolean | null> =>
  Effect.suspend(() => {
    const socket = socketsOf(folder).find((each) => each.owner === owner)
    return socket === undefined ? Effect.succeed(null) : ask(socket.path)
  })

/** The process that listens in a folder, by its number where it runs; `null`: none does. */
export const listener = (folder: string): Effect.Effect<number | null> =>
  Effect.map(
    Effect.suspend(() => Effect.findFirst(socketsOf(folder), ({ path }) => Effect.map(ask(path), (is) => is === true))),
    (found) => Option.match(found, { onNone: () => null, onSome: ({ pid }) => pid }),
  )

const ask = (path: string): Effect.Effect<boolean | null> =>
  Effect.async((resume) => {
    const socket = createConnection(path)
    const answer = (is: boolean | null) => {
      socket.destroy()
      resume(Effect.succeed(is))
    }
    socket.setTimeout(answerMillis, () => answer(null))
    socket.on("connect", () => answer(true))
    socket.on("error", (error: NodeJS.ErrnoException) => answer(answers[error.code ?? ""] ?? null))
  })

/** Of one that is held up, and has been asked very often, there is no room for another question. */
const answers: { readonly [code: string]: boolean | undefined } = { ECONNREFUSED: false, EAGAIN: true }

/** Removes what owners have left that were killed. */
export const sweep = (folder: string, owner: number): void => {
  for (const { owner: other, path } of socketsOf(folder)) if (other !== owner) rmSync(path, { force: true })
}
