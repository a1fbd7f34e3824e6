/** PID namespaces: each holds one command at a time, and is kept for the next. */
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import type { Argv, Containment, Place } from "./Containment.js"
import { type Identity, make as makeCookie, variable } from "./Cookie.js"
import { prefixOf } from "./Folder.js"
import { type ForkServer, type Options, start } from "./ForkServer.js"

/** The longest that one may take to begin, and all of them to end. */
const startMillis = 5000
const endMillis = 5000

/** Keeps as many as there were commands at once, for as long as there is work. */
const make = (options: () => Options, idleMillis: number): Containment => {
  const servers = new Set<ForkServer>()
  /** Those that have nothing to do, the latest one last, and what ends them. */
  const idle = new Map<ForkServer, NodeJS.Timeout>()
  let closed = false

  const release = (server: ForkServer): void => {
    if (closed || !server.lives()) {
      server.kill()
      return
    }
    idle.set(
      server,
      setTimeout(() => {
        idle.delete(server)
        server.kill()
      }, idleMillis).unref(),
    )
  }

  const takeIdle = (): ForkServer | undefined => {
    for (const [server, timer] of [...idle].reverse()) {
      clearTimeout(timer)
      idle.delete(server)
      if (server.lives()) return server
    }
    return undefined
  }

  const placeOf = (server: ForkServer, isUsed: boolean): Place => ({
    isUsed,
    launch: (launch) => server.launch(launch, () => release(server)),
    release: () => release(server),
  })

  return {
    mode: "namespace",
    prepare: async (onError) => {
      const found = takeIdle()
      if (found !== undefined) return placeOf(found, true)
      if (closed) return "ECANCELED"
      const server = start(options(), onError)
      if (server instanceof Promise) return server
      servers.add(server)
      void server.gone.then(() => servers.delete(server))
      const timer = setTimeout(server.kill, startMillis)
      const refusal = await server.ready
      clearTimeout(timer)
      return refusal ?? placeOf(server, false)
    },
    close: async () => {
      closed = true
      for (const timer of idle.values()) clearTimeout(timer)
      for (const server of servers) server.kill()
      const all = Promise.all([...servers].map(({ gone }) => gone))
      // What the system does not remove must not keep the service from its end.
      await Promise.race([all, sleep(endMillis, undefined, { ref: false })])
    },
  }
}

const unshare = (identity: Identity, idleMillis: number, privileges: ReadonlyArray<string>): Containment => {
  const options = () => ({
    wrap: (argv: Argv): Argv => [
      "setpriv",
      "--pdeathsig",
      "KILL",
      "unshare",
      ...privileges,
      "--pid",
      "--fork",
      "--kill-child=KILL",
      "--mount-proc",
      ...argv,
    ],
    // Whoever looks for the processes of the service's attempts has to find what begins them too.
    env: { PATH: process.env.PATH ?? "", [variable]: makeCookie(identity, "") },
    prefix: join(tmpdir(), `${prefixOf(identity)}fork-`),
  })
  return make(options, idleMillis)
}

/**
 * Those to try, in this order: root needs no user namespace; whoever else may have one keeps their own name in it.
 * One that has nothing to do for `idleMillis` ends: work that comes at all comes sooner than in a minute.
 */
export const namespaces = (identity: Identity, idleMillis = 60_000): ReadonlyArray<Containment> => [
  ...(process.getuid?.() === 0 ? [unshare(identity, idleMillis, [])] : []),
  unshare(identity, idleMillis, ["--user", "--map-current-user"]),
]
