/**
 * From a name to its addresses, without the threads of the process: `getaddrinfo` would hold one of libuv's few for as
 * long as a name server of somebody's choice is silent, and files are read and written by the same ones. So the hosts
 * file is asked first, then the name servers by UDP, any number of names at a time. What else a system may know (mDNS,
 * a directory) is asked for by threads, one name at a time, and only of names that the settings themselves list.
 */
import { lookup as systemLookup } from "node:dns"
import { Resolver } from "node:dns/promises"
import { Effect, Either } from "effect"
import {
  type Address,
  candidates,
  isLocalhost,
  loopback,
  makeFile,
  parseHosts,
  parseResolvConf,
  toAddress,
} from "./Names.js"

/** A name that is looked for. */
export interface Name {
  readonly hostname: string
  /** Whether the settings list it. */
  readonly isNamed: boolean
  /** The longest that it may take, in milliseconds. */
  readonly limitMillis: number
}

/** Gives every address of a name. */
export type Lookup = (name: Name) => Effect.Effect<ReadonlyArray<Address>, Unresolved>

export interface Unresolved {
  readonly code: string
}

/** The longest that name servers are waited for, in milliseconds: a receiver has to have time to answer, too. */
const longestMillis = 5000

/** How long one name server is waited for at first, and how often each is asked. */
const patience = { timeout: 1500, tries: 2 }

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "EAI_FAIL"

/** `[]`: the name has none of this family. */
const ask = (resolver: Resolver, name: string, family: "resolve4" | "resolve6", limitMillis: number) =>
  Effect.tryPromise({ try: () => resolver[family](name), catch: codeOf }).pipe(
    Effect.timeoutFail({ duration: limitMillis, onTimeout: () => "ETIMEOUT" }),
    Effect.catchIf(
      (code) => code === "ENODATA",
      () => Effect.succeed([]),
    ),
    Effect.either,
  )

/** Both families side by side. Where one of them gets no answer, the other one's addresses are those of the name. */
const askBoth = (name: string, servers: ReadonlyArray<string>, limitMillis: number) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      // One for each name: it reads where the name servers are, and can be told to stop.
      const resolver = new Resolver(patience)
      if (servers.length > 0) resolver.setServers(servers)
      return resolver
    }),
    (resolver) =>
      Effect.map(
        Effect.all([ask(resolver, name, "resolve6", limitMillis), ask(resolver, name, "resolve4", limitMillis)], {
          concurrency: "unbounded",
        }),
        (answers): Either.Either<ReadonlyArray<Address>, string> => {
          const found = answers.flatMap((answer) => Either.getOrElse(answer, () => []))
          if (found.length > 0) return Either.right(found.map(toAddress))
          const failure = answers.find(Either.isLeft)
          return failure === undefined ? Either.left("ENODATA") : Either.left(failure.left)
        },
      ),
    (resolver) => Effect.sync(() => resolver.cancel()),
  )

/** Whether a name server has said that there is no such name; all else is that nobody has said anything. */
const isAbsent = (code: string) => code === "ENOTFOUND" || code === "ENODATA"

const bySystem = (hostname: string): Effect.Effect<ReadonlyArray<Address>, Unresolved> =>
  Effect.async((resume) => {
    systemLookup(hostname, { all: true, order: "verbatim" }, (error, addresses) =>
      resume(error === null ? Effect.succeed(addresses) : Effect.fail({ code: error.code ?? "EAI_FAIL" })),
    )
  })

/** Where this machine says what it knows of names; for tests, others. */
export const systemFiles = { hosts: "/etc/hosts", resolvConf: "/etc/resolv.conf" }

/** `servers`: name servers, as `OFFLOAD_DNS_SERVERS` has them; none are those of the machine. */
export const make = (servers: ReadonlyArray<string>, files = systemFiles): Lookup => {
  const hostsFile = makeFile(files.hosts, parseHosts)
  const resolvConf = makeFile(files.resolvConf, parseResolvConf)
  const oneAtATime = Effect.unsafeMakeSemaphore(1)
  /** Who waits no longer leaves the thread at work: its place is held until that has ended. */
  const byThreads = (hostname: string) =>
    Effect.disconnect(oneAtATime.withPermits(1)(Effect.uninterruptible(bySystem(hostname))))

  const byServers = (hostname: string, limitMillis: number): Effect.Effect<ReadonlyArray<Address>, Unresolved> =>
    Effect.gen(function* () {
      let code = "ENOTFOUND"
      for (const name of candidates(hostname, yield* resolvConf)) {
        const answer = yield* askBoth(name, servers, limitMillis)
        if (Either.isRight(answer)) return answer.right
        code = answer.left
        if (!isAbsent(code)) break
      }
      return yield* Effect.fail({ code: code === "ETIMEOUT" ? "ETIMEDOUT" : code })
    })

  return ({ hostname, isNamed, limitMillis }) =>
    Effect.gen(function* () {
      const name = hostname.toLowerCase().replace(/\.$/, "")
      const known = (yield* hostsFile).get(name)
      if (known !== undefined) return known
      if (isLocalhost(name)) return loopback
      const limit = Math.min(longestMillis, limitMillis / 2)
      const found = byServers(hostname.toLowerCase(), limit)
      // Where name servers are silent, the system would wait for the same ones.
      return yield* Effect.catchIf(
        found,
        ({ code }) => isNamed && code !== "ETIMEDOUT",
        () => byThreads(hostname),
      )
    })
}
