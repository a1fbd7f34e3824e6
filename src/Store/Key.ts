/**
 * Keys are tuples. Their order as strings, and as bytes, is the order of the tuples: numbers are padded to one width,
 * and the separator sorts before everything that a part may hold.
 */

// lmdb keeps a NUL in two different ways, by the length of the key, so that keys which hold one are out of order.
const separator = "\u001f"
const next = " "

const width = 16

const encode = (part: string | number): string =>
  typeof part === "number"
    ? String(Math.min(Math.max(Math.ceil(part), 0), Number.MAX_SAFE_INTEGER)).padStart(width, "0")
    : /[^!-~]|%/.test(part)
      ? part.replace(/[^!-~]|%/g, (char) => `%${char.charCodeAt(0).toString(16).padStart(4, "0")}`)
      : part

/** The key of a tuple. Numbers are whole and not negative; others are rounded up. */
export const key = (...parts: ReadonlyArray<string | number>): string => parts.map(encode).join(separator)

/** The range of all keys that begin with these parts and go on. */
export const under = (...parts: ReadonlyArray<string | number>): { readonly start: string; readonly end: string } =>
  underPrefix(key(...parts))

/** The range of all keys. */
export const all = { start: " ", end: "\u007f" }

/** The same for a key that was made before. */
export const underPrefix = (prefix: string): { readonly start: string; readonly end: string } => ({
  start: prefix + separator,
  end: prefix + next,
})

/** The key of the first `count` parts of a key. */
export const prefix = (key: string, count: number): string => {
  let end = -1
  for (let i = 0; i < count; i++) {
    end = key.indexOf(separator, end + 1)
    if (end === -1) return key
  }
  return key.slice(0, end)
}

/** The last part of a key, where it is a number. */
export const lastNumber = (key: string): number => Number(key.slice(-width))

/** The parts of a key, all as strings. */
export const parts = (key: string): ReadonlyArray<string> =>
  key
    .split(separator)
    .map((part) =>
      part.includes("%")
        ? part.replace(/%([0-9a-f]{4})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
        : part,
    )
