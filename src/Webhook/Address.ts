/** Which addresses a message may be sent to. */
import { isIP } from "node:net"
import ipaddr from "ipaddr.js"

type Ip = ipaddr.IPv4 | ipaddr.IPv6

/** What `OFFLOAD_WEBHOOK_ALLOW_HOSTS` allows: names in lower case, and ranges of addresses. */
export interface Allowed {
  readonly names: ReadonlySet<string>
  readonly ranges: ReadonlyArray<readonly [Ip, number]>
}

/** Each entry is a name, an address or a CIDR range, as the setting has been checked to be. */
export const allowed = (entries: ReadonlyArray<string>): Allowed => {
  const isAddress = (entry: string) => ipaddr.isValid(entry) || ipaddr.isValidCIDR(entry)
  return {
    names: new Set(entries.filter((entry) => !isAddress(entry)).map((entry) => entry.toLowerCase())),
    ranges: entries
      .filter(isAddress)
      .map((entry) => ipaddr.parseCIDR(entry.includes("/") ? entry : `${entry}/${entry.includes(":") ? 128 : 32}`)),
  }
}

const globalUnicast = ipaddr.IPv6.parse("2000::")
const nat64 = ipaddr.IPv6.parse("64:ff9b::")

/** The IPv4 address that is reached through an IPv6 one which maps it (RFC 4291) or translates it (RFC 6052). */
const embedded = (address: ipaddr.IPv6): ipaddr.IPv4 | null => {
  if (address.isIPv4MappedAddress()) return address.toIPv4Address()
  return address.match(nat64, 96) ? new ipaddr.IPv4(address.toByteArray().slice(12)) : null
}

/** Only what the system takes for an address, and as the system takes it. */
const parse = (text: string): Ip | null => {
  // The library reads `::192.0.2.1` as `::ffff:192.0.2.1`, which is another address.
  if (isIP(text) === 0 || /^::\d+\./.test(text) || !ipaddr.isValid(text)) return null
  const address = ipaddr.parse(text)
  return address instanceof ipaddr.IPv6 ? (embedded(address) ?? address) : address
}

/**
 * Whether everybody on the internet means the same machine by this address. Of IPv6 that is only what is assigned
 * for it: outside of 2000::/3 there are addresses that hold an IPv4 one, site-local ones, and those of the future.
 */
const isPublic = (address: Ip): boolean =>
  address.range() === "unicast" && (address instanceof ipaddr.IPv4 || address.match(globalUnicast, 3))

const isIn = (address: Ip, [start, bits]: readonly [Ip, number]): boolean =>
  address.kind() === start.kind() && address.match(start, bits)

/** Whether an address stands in a range that the setting allows. */
export const isListed = (text: string, { ranges }: Allowed): boolean => {
  const address = parse(text)
  return address !== null && ranges.some((range) => isIn(address, range))
}

/** Whether a message may be sent to an address. What is no address may not. */
export const isAllowed = (text: string, allowed: Allowed): boolean => {
  const address = parse(text)
  return address !== null && (isPublic(address) || isListed(text, allowed))
}
