/** From a URL to where a message goes: what the URL tells, and the checked addresses of its host. */
import { isIP } from "node:net"
import { Effect } from "effect"
import { WebhookRefused, WebhookUnreachable } from "../Job/JobError.js"
import { type Allowed, isAllowed, isListed } from "./Address.js"
import type { Address } from "./Names.js"
import type { Lookup } from "./Resolve.js"

/** A URL that a message may be sent to, if the addresses of its host allow it. */
export interface Target {
  readonly url: URL
  /** Without the brackets of an IPv6 address. */
  readonly hostname: string
  /** Whether the setting names the host: its addresses may be any. */
  readonly isNamed: boolean
}

/** What the URL itself tells; a host that is an address is checked here, since nothing resolves it later. */
export const parse = (text: string, allowed: Allowed): Effect.Effect<Target, WebhookRefused> => {
  if (!URL.canParse(text)) return new WebhookRefused({ host: "", reason: "it is no URL" })
  const url = new URL(text)
  const hostname = url.hostname.replace(/^\[|\]$/g, "")
  const refuse = (reason: string) => new WebhookRefused({ host: url.host, reason })
  // A name may end in the root's dot.
  const isNamed = allowed.names.has(hostname.toLowerCase().replace(/\.$/, ""))
  const isAddress = isIP(hostname) !== 0
  if (url.username !== "" || url.password !== "") return refuse("it has credentials in it")
  if (url.protocol !== "https:" && url.protocol !== "http:") return refuse("it is not https")
  if (url.protocol === "http:" && !isNamed && !isListed(hostname, allowed)) return refuse("it is not https")
  if (isAddress && !isAllowed(hostname, allowed)) return refuse("its address is not a public one")
  return Effect.succeed({ url, hostname, isNamed })
}

/**
 * The addresses of a target's host, each of them checked: one that is not allowed refuses all, since a name that has
 * both kinds is a trap or a mistake. Whoever connects takes these, and never asks for the name again.
 */
export const resolve = (
  { hostname, isNamed, url: { host } }: Target,
  allowed: Allowed,
  lookup: Lookup,
  limitMillis: number,
): Effect.Effect<ReadonlyArray<Address>, WebhookRefused | WebhookUnreachable> => {
  const family = isIP(hostname)
  // `parse` has checked it.
  if (family !== 0) return Effect.succeed([{ address: hostname, family }])
  return lookup({ hostname, isNamed, limitMillis }).pipe(
    Effect.mapError(({ code }) => new WebhookUnreachable({ host, code })),
    Effect.filterOrFail(
      (addresses) => addresses.length > 0,
      () => new WebhookUnreachable({ host, code: "ENOTFOUND" }),
    ),
    Effect.filterOrFail(
      (addresses) => isNamed || addresses.every(({ address }) => isAllowed(address, allowed)),
      () => new WebhookRefused({ host, reason: "its name has an address that is not a public one" }),
    ),
  )
}
