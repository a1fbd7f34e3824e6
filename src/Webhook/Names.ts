/** What this machine says of names: its hosts file, and how it completes short ones. */
import { readFile, stat } from "node:fs/promises"
import { isIP } from "node:net"
import { Effect } from "effect"

export interface Address {
  readonly address: string
  readonly family: number
}

export const toAddress = (address: string): Address => ({ address, family: isIP(address) })

/** Names in lower case, each with its addresses. */
export type Hosts = ReadonlyMap<string, ReadonlyArray<Address>>

/** The format of hosts(5). */
export const parseHosts = (text: string): Hosts => {
  const hosts = new Map<string, Array<Address>>()
  for (const line of text.split("\n")) {
    const [address = "", ...names] = line.replace(/#.*/, "").trim().split(/\s+/)
    if (isIP(address) === 0 || address.includes("%")) continue
    for (const name of names) {
      const known = hosts.get(name.toLowerCase()) ?? []
      hosts.set(name.toLowerCase(), [...known, toAddress(address)])
    }
  }
  return hosts
}

/** How resolv.conf(5) completes names. */
export interface Completion {
  readonly search: ReadonlyArray<string>
  /** A name with so many dots is asked for as it is before it is completed. */
  readonly ndots: number
}

export const parseResolvConf = (text: string): Completion => {
  let search: ReadonlyArray<string> = []
  let ndots = 1
  for (const line of text.split("\n")) {
    const [keyword, ...words] = line
      .replace(/[#;].*/, "")
      .trim()
      .split(/\s+/)
    if (keyword === "search" || keyword === "domain") search = words.map((word) => word.replace(/\.$/, ""))
    const dots = keyword === "options" ? /\bndots:(\d{1,2})\b/.exec(words.join(" "))?.[1] : undefined
    if (dots !== undefined) ndots = Math.min(15, Number(dots))
  }
  return { search: search.filter((word) => word !== "").slice(0, 6), ndots }
}

/** The names to ask for, in their order. One that ends in a dot is whole. */
export const candidates = (hostname: string, { ndots, search }: Completion): ReadonlyArray<string> => {
  if (hostname.endsWith(".")) return [hostname.slice(0, -1)]
  const completed = search.map((domain) => `${hostname}.${domain}`)
  return hostname.split(".").length > ndots ? [hostname, ...completed] : [...completed, hostname]
}

/** RFC 6761: what is below `localhost` is this machine, whatever anybody says of it. */
export const isLocalhost = (name: string): boolean => name === "localhost" || name.endsWith(".localhost")

export const loopback: ReadonlyArray<Address> = [toAddress("127.0.0.1"), toAddress("::1")]

/** A file as it is now, read again where it has changed. A file that is not there says nothing. */
export const makeFile = <A>(path: string, parse: (text: string) => A): Effect.Effect<A> => {
  let known: { readonly state: string; readonly value: A } | null = null
  const read = async (): Promise<A> => {
    const { ino, mtimeMs, size } = await stat(path)
    const state = `${ino} ${mtimeMs} ${size}`
    if (known?.state !== state) known = { state, value: parse(await readFile(path, "utf8")) }
    return known.value
  }
  return Effect.catchAll(Effect.tryPromise(read), () => Effect.sync(() => parse("")))
}
