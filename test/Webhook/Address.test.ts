import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { allowed, isAllowed, isListed } from "../../src/Webhook/Address.js"

const nothing = allowed([])

/** Every range that is not for everybody on the internet, as IANA's registries of special addresses list them. */
const closed = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
] as const

const closed6 = [
  "::/8",
  "64:ff9b:1::/48",
  "100::/64",
  "2001::/32",
  "2001:2::/48",
  "2001:db8::/32",
  "2002::/16",
  "3fff::/20",
  "4000::/3",
  "5f00::/16",
  "fc00::/7",
  "fe80::/10",
  "fec0::/10",
  "ff00::/8",
] as const

const bytesOf = (cidr: string): { readonly start: bigint; readonly bits: number; readonly width: number } => {
  const [address = "", prefix = ""] = cidr.split("/")
  if (!address.includes(":")) {
    const start = address.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n)
    return { start, bits: Number(prefix), width: 32 }
  }
  const [head = "", tail = ""] = address.split("::")
  const groups = (text: string) => (text === "" ? [] : text.split(":"))
  const zeros = Array(8 - groups(head).length - groups(tail).length).fill("0")
  const start = [...groups(head), ...zeros, ...groups(tail)].reduce(
    (sum, part) => sum * 65_536n + BigInt(`0x${part}`),
    0n,
  )
  return { start, bits: Number(prefix), width: 128 }
}

const write = (value: bigint, width: number): string =>
  width === 32
    ? [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 255n).join(".")
    : Array.from({ length: 8 }, (_, n) => ((value >> BigInt(112 - 16 * n)) & 65_535n).toString(16)).join(":")

/** An address of a range. */
const within = (cidr: string): fc.Arbitrary<string> => {
  const { bits, start, width } = bytesOf(cidr)
  return fc.bigUintN(width - bits).map((offset) => write(start + offset, width))
}

const hex = (address: string) => {
  const [a = 0, b = 0, c = 0, d = 0] = address.split(".").map(Number)
  return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
}

/** The notations of an IPv4 address within IPv6 that lead to it. */
const disguises = [
  (address: string) => `::ffff:${address}`,
  (address: string) => `::ffff:${hex(address)}`,
  (address: string) => `64:ff9b::${address}`,
  (address: string) => `64:ff9b::${hex(address)}`,
]

const check = <A>(arbitrary: fc.Arbitrary<A>, predicate: (value: A) => void) =>
  fc.assert(
    fc.property(arbitrary, (value) => {
      predicate(value)
    }),
    { numRuns: 100 },
  )

describe("an address", () => {
  it.each([...closed, ...closed6])("of %s is not allowed", (range) => {
    check(within(range), (address) => expect(`${address} ${isAllowed(address, nothing)}`).toBe(`${address} false`))
  })

  it("that holds an IPv4 one is as that one", () => {
    check(fc.tuple(fc.oneof(...closed.map(within)), fc.constantFrom(...disguises)), ([address, disguise]) =>
      expect(isAllowed(disguise(address), nothing)).toBe(false),
    )
    for (const disguise of disguises) expect(isAllowed(disguise("93.184.216.34"), nothing)).toBe(true)
    // What was once to be routed through relays of unknown people is refused whatever it holds.
    expect(isAllowed(`2002:${hex("93.184.216.34")}::1`, nothing)).toBe(false)
    expect(isAllowed("::93.184.216.34", nothing)).toBe(false)
  })

  it("that is public is allowed", () => {
    for (const address of ["1.1.1.1", "93.184.216.34", "223.255.255.254", "2606:4700:4700::1111", "2a00:1450::1"]) {
      expect(isAllowed(address, nothing)).toBe(true)
    }
  })

  it("is allowed where it stands in a listed range, in any notation, and only there", () => {
    const rules = allowed(["10.1.0.0/16", "192.168.7.7", "fd00::/8", "hooks.internal"])
    check(within("10.1.0.0/16"), (address) => {
      expect(isAllowed(address, rules)).toBe(true)
      for (const disguise of disguises) expect(isAllowed(disguise(address), rules)).toBe(true)
    })
    check(within("fd00::/8"), (address) => expect(isListed(address, rules)).toBe(true))
    expect(isAllowed("192.168.7.7", rules)).toBe(true)
    for (const address of ["192.168.7.8", "10.2.0.0", "fc00::1", "127.0.0.1", "::1"]) {
      expect(isAllowed(address, rules)).toBe(false)
    }
    expect(rules.names).toEqual(new Set(["hooks.internal"]))
  })

  it("that is none is not allowed", () => {
    for (const text of ["", "localhost", "1.1.1.1.1", "2606:4700::1::1", "fe80::1%lo", "1.1.1.1/32"]) {
      expect(isAllowed(text, allowed(["10.0.0.0/8"]))).toBe(false)
    }
    check(fc.string(), (text) => {
      isAllowed(text, nothing)
    })
  })
})
