/**
 * Finds the connections that are open and of no use, and has them made again: one that answers nothing (half-open), and
 * one whose server takes no writes any more (a replica by now). What its user asks meanwhile fails, or waits.
 */
import { Cluster, type Redis } from "ioredis"

/** How often a connection is asked for a sign of life, in milliseconds. */
const lookMillis = 1000

/** How many looks in a row may find nothing. Looks, and not time: a process that was held up has missed none. */
const silentLooks = 4

/** How long after connections were made again this is not done once more, in milliseconds. */
const waveMillis = 1000

type Client = Redis | Cluster

interface Heard {
  readonly stream: Redis["stream"]
  readonly bytes: number
  readonly silent: number
}

/** What was heard of a connection, or `null` where it was given up. */
const look = (connection: Redis, before: Heard | undefined): Heard | null => {
  const { status, stream } = connection
  if (status !== "ready" && status !== "connect") return null
  const isSame = before?.stream === stream && before.bytes === stream.bytesRead
  const silent = isSame ? before.silent + 1 : 0
  if (silent >= silentLooks) {
    stream.destroy()
    return null
  }
  // What comes of it is seen in the bytes that were read.
  if (status === "ready") connection.ping().catch(() => {})
  return { stream, bytes: stream.bytesRead, silent }
}

/** Looks at a client's connections for as long as it lives. */
export const watch = (client: Client): void => {
  let heard = new Map<Redis, Heard>()
  let timer: NodeJS.Timeout | null = null
  const lookAll = () => {
    const next = new Map<Redis, Heard>()
    for (const connection of client instanceof Cluster ? client.nodes() : [client]) {
      const now = look(connection, heard.get(connection))
      if (now !== null) next.set(connection, now)
    }
    heard = next
  }
  // One that has ended may be told to connect again.
  client.on("connect", () => {
    timer ??= setInterval(lookAll, lookMillis).unref()
  })
  client.on("end", () => {
    if (timer !== null) clearInterval(timer)
    timer = null
  })
}

/** Answers of a server that is not the one that takes writes, or not any more: the next connection may find that one. */
const isElsewhere = ({ message }: Error): boolean => /(^|-)(READONLY|MASTERDOWN|LOADING|UNBLOCKED)\b/.test(message)

/**
 * Clients of the same address. Where one of them meets a server that takes no writes, all connect again: one that only
 * listens would never find out.
 */
export const makeFamily = () => {
  const clients = new Set<Client>()
  let last = Number.NEGATIVE_INFINITY
  return {
    add: (client: Client): void => {
      client.on("connect", () => clients.add(client))
      client.on("end", () => clients.delete(client))
    },
    /** For ioredis, which asks for each error that a server answers; it connects anew who met the error. */
    reconnectOnError: (error: Error): boolean => {
      const now = performance.now()
      if (!isElsewhere(error) || now - last < waveMillis) return false
      last = now
      for (const client of clients) if (client instanceof Cluster === false) client.disconnect(true)
      return true
    },
  }
}
