/** What `REDIS_URL` says. What is not understood is refused, in words that hold no part of it: it has the password. */
import { Either } from "effect"

export interface Host {
  /** Without the brackets of an IPv6 address. */
  readonly host: string
  readonly port: number
}

/** Where Redis is, and who asks. */
export interface Place {
  readonly kind: "server" | "cluster" | "sentinel"
  readonly secure: boolean
  /** Nothing: the default user. */
  readonly username: string
  readonly password: string
  readonly hosts: readonly [Host, ...ReadonlyArray<Host>]
  /** The number of the database: 0 but for a single server. */
  readonly db: number
  /** How the sentinels call the master; nothing where there are none. */
  readonly master: string
}

const schemes: Readonly<Record<string, Pick<Place, "kind" | "secure">>> = {
  redis: { kind: "server", secure: false },
  rediss: { kind: "server", secure: true },
  "redis+cluster": { kind: "cluster", secure: false },
  "rediss+cluster": { kind: "cluster", secure: true },
  "redis+sentinel": { kind: "sentinel", secure: false },
  "rediss+sentinel": { kind: "sentinel", secure: true },
}

type Read<A> = Either.Either<A, string>

const reserved = "a `/`, `?`, `#`, `@` or `%` in a user, a password or a name is written with a percent sign, as `%40`"

const decode = (text: string): Read<string> =>
  Either.try({ try: () => decodeURIComponent(text), catch: () => `it has a \`%\` that begins no code: ${reserved}` })

/** One host, as `new URL` reads it. */
const host = (text: string, port: number): Read<Host> => {
  const url = `redis://${text}`
  if (!/^(\[[0-9a-f:.]+\]|[\w.-]+)(:\d+)?$/i.test(text) || !URL.canParse(url)) {
    return Either.left(`a host of it is not \`name\`, \`name:port\` or \`[address]:port\`: ${reserved}`)
  }
  const { hostname, port: own } = new URL(url)
  return Either.right({ host: hostname.replace(/^\[|\]$/g, ""), port: own === "" ? port : Number(own) })
}

const hosts = (text: string, port: number): Read<Place["hosts"]> =>
  Either.flatMap(Either.all(text.split(",").map((each) => host(each, port))), ([first, ...rest]) =>
    first === undefined ? Either.left("it names no host") : Either.right([first, ...rest] as const),
  )

const login = (text: string): Read<Pick<Place, "username" | "password">> => {
  const [username = "", ...rest] = text.split(":")
  return Either.all({ username: decode(username), password: decode(rest.join(":")) })
}

/** What follows the hosts: the database of a server, the master's name of sentinels. */
const rest = (kind: Place["kind"], path: string): Read<Pick<Place, "db" | "master">> => {
  if (kind === "sentinel") {
    return path === "" || /[/@]/.test(path)
      ? Either.left(`it does not end in the name of the sentinels' master, as \`/name\`: ${reserved}`)
      : Either.map(decode(path), (master) => ({ db: 0, master }))
  }
  if (kind === "cluster") {
    return path === "" ? Either.right({ db: 0, master: "" }) : Either.left("a cluster has no databases to choose from")
  }
  return path === "" || /^\d{1,9}$/.test(path)
    ? Either.right({ db: Number(path), master: "" })
    : Either.left(`its path is not the number of a database: ${reserved}`)
}

/**
 * `redis://` and `rediss://` as usual (`rediss://user:password@host:port/db`); `redis+cluster://a:6379,b:6379` and
 * `redis+sentinel://a:26379,b:26379/name`, with `s` after `redis` for TLS, and credentials before the hosts. Or why not.
 */
export const read = (url: string): Read<Place> => {
  const [, name = "", authority = "", path = "", more = ""] =
    /^([a-z+]+):\/\/([^/?#]*)(?:\/([^?#]*))?(.*)$/is.exec(url) ?? []
  const scheme = schemes[name.toLowerCase()]
  if (scheme === undefined) {
    return Either.left("it does not begin with `redis://`, `rediss://`, `redis+cluster://` or `redis+sentinel://`")
  }
  if (more !== "") return Either.left(`it has a query or a fragment, which means nothing here: ${reserved}`)
  const [credentials, ...others] = authority.split("@").toReversed().slice(1).toReversed()
  if (others.length > 0) return Either.left(`it has more than one \`@\` before the hosts: ${reserved}`)
  return Either.map(
    Either.all([
      login(credentials ?? ""),
      hosts(authority.slice(authority.lastIndexOf("@") + 1), scheme.kind === "sentinel" ? 26_379 : 6379),
      rest(scheme.kind, path),
    ]),
    ([user, hosts, end]) => ({ ...scheme, ...user, hosts, ...end }),
  ).pipe(
    Either.filterOrLeft(
      ({ hosts, kind }) => kind !== "server" || hosts.length === 1,
      () => "it has several hosts, which only a cluster and sentinels have",
    ),
  )
}
