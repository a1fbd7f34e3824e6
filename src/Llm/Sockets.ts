/**
 * The socket by which sandboxes connect their streams to the service. It is in the folder of all attempts, which no
 * command in a namespace sees; who connects has to know a word that was told to one sandbox, and is good once for each
 * of its streams.
 */
import { randomBytes } from "node:crypto"
import { chmodSync, closeSync, constants, existsSync, openSync, rmSync } from "node:fs"
import { createServer, type Server, type Socket } from "node:net"
import { join } from "node:path"
import type { Refusal } from "./Containment.js"
import { type Scratch, unusable } from "./Scratch.js"

/** The streams of a sandbox, by the letters that it says: the three of its command, and its own. */
export type Role = "0" | "1" | "2" | "c"

const isRole = (letter: string): letter is Role => ["0", "1", "2", "c"].includes(letter)

const tokenBytes = 16
const tokenLength = 2 * tokenBytes

/** How many connections may be there that have not said yet whose they are, and for how long, in milliseconds. */
const maxStrangers = 64
const strangerMillis = 2000

/** The longest address that every system takes. */
const maxAddressBytes = 100

/** Takes a stream, and what came with the words that named it. */
export type Take = (role: Role, socket: Socket, rest: Buffer) => void

export interface Expected {
  readonly token: string
  /** Turns away what has not come yet. */
  readonly forget: () => void
}

export interface Sockets {
  /** Its name in the root of the scratch. */
  readonly name: string
  /** Listens, if it does not; resolves to why it cannot. */
  readonly listen: () => Promise<Refusal | null>
  readonly expect: (take: Take) => Expected
  readonly close: () => Promise<void>
}

export const make = (scratch: Scratch, owner: string): Sockets => {
  const folder = scratch.root
  const name = `${owner}-${randomBytes(4).toString("hex")}.socket`
  const path = join(folder, name)
  const expected = new Map<string, Take>()
  const strangers = new Set<Socket>()
  let listening: { readonly close: () => Promise<void> } | undefined
  let starting: Promise<Refusal | null> | undefined

  const identify = (socket: Socket, chunk: Buffer): void => {
    const key = chunk.toString("latin1", 0, tokenLength + 1)
    const take = expected.get(key)
    const role = key.slice(tokenLength)
    if (take === undefined || !isRole(role)) {
      socket.destroy()
      return
    }
    expected.delete(key)
    socket.setTimeout(0)
    take(role, socket, chunk.subarray(tokenLength + 1))
  }

  const accept = (socket: Socket): void => {
    // Closed early or broken: what becomes of a command is told by its end.
    socket.on("error", () => {})
    const [oldest] = strangers
    if (oldest !== undefined && strangers.size >= maxStrangers) oldest.destroy()
    strangers.add(socket)
    const settled = () => strangers.delete(socket)
    socket.setTimeout(strangerMillis, () => socket.destroy())
    socket.once("close", settled).once("data", (chunk) => {
      settled()
      identify(socket, chunk)
    })
  }

  const listen = async (): Promise<Refusal | null> => {
    if (listening !== undefined && existsSync(path)) return null
    // Somebody has removed it, or the folder that it was in.
    await listening?.close()
    listening = undefined
    const trouble = scratch.trouble()
    if (trouble !== null) return trouble
    try {
      // The folder may have been moved away with it, and back.
      rmSync(path, { force: true })
      listening = await open(folder, name, accept)
      return null
    } catch (error) {
      return unusable(folder, error)
    }
  }

  return {
    name,
    listen: () => {
      starting ??= listen().finally(() => {
        starting = undefined
      })
      return starting
    },
    expect: (take) => {
      const token = randomBytes(tokenBytes).toString("hex")
      const keys = ["0", "1", "2", "c"].map((role) => token + role)
      for (const key of keys) expected.set(key, take)
      return {
        token,
        forget: () => {
          for (const key of keys) expected.delete(key)
        },
      }
    },
    close: async () => {
      for (const socket of strangers) socket.destroy()
      await listening?.close()
    },
  }
}

/** An address by the folder's descriptor, where the path is too long for one: Linux has names for them. */
const addressOf = (folder: string, name: string): { readonly path: string; readonly release: () => void } => {
  const path = join(folder, name)
  if (Buffer.byteLength(path) <= maxAddressBytes) return { path, release: () => {} }
  const descriptor = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  return { path: `/proc/self/fd/${descriptor}/${name}`, release: () => closeSync(descriptor) }
}

const open = (folder: string, name: string, accept: (socket: Socket) => void) => {
  const { path, release } = addressOf(folder, name)
  const server: Server = createServer({ allowHalfOpen: true }, accept).unref()
  const close = () =>
    new Promise<void>((resolve) => {
      // Connections that it has accepted go on, and it would wait for their end.
      server.close()
      release()
      resolve()
    })
  return new Promise<{ readonly close: () => Promise<void> }>((resolve, reject) => {
    server.once("error", (error) => {
      release()
      reject(error)
    })
    server.listen({ path, exclusive: true }, () => {
      try {
        chmodSync(path, 0o600)
        resolve({ close })
      } catch (error) {
        void close().then(() => reject(error))
      }
    })
  })
}
