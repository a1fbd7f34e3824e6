/**
 * Decoders for standard output that has one JSON value a line, and a lenient way to read what is in them: a field
 * that is missing or of another type is `undefined`, and a line that is no JSON is given as it is.
 */
import type { Decoder, Event } from "./Adapter.js"

/** What a command line makes of its lines. */
export interface Lines {
  readonly value: (value: unknown) => ReadonlyArray<Event>
  /** A line that is no JSON: a warning that strayed here, or a broken event. By default, ignored. */
  readonly other?: (line: string) => ReadonlyArray<Event>
  readonly end?: () => ReadonlyArray<Event>
}

/** The JSON value of a line; `undefined` if it is none. */
export const parse = (line: string): unknown => {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

/** Splits at line feeds, whatever the pieces it is given. A line longer than `maxLine` ends it with `TooLong`. */
export const decoder = ({ value, other = () => [], end = () => [] }: Lines, maxLine: number): Decoder => {
  let partial = ""

  const read = (line: string): ReadonlyArray<Event> => {
    if (line.trim() === "") return []
    const parsed = parse(line)
    return parsed === undefined ? other(line) : value(parsed)
  }

  return {
    push: (text) => {
      const [first = "", ...rest] = text.split("\n")
      partial += first
      if (partial.length > maxLine) return [{ _tag: "TooLong" }]
      const last = rest.pop()
      if (last === undefined) return []
      const events = [partial, ...rest].flatMap(read)
      partial = last
      return events
    },
    end: () => {
      const events = read(partial)
      partial = ""
      return [...events, ...end()]
    },
  }
}

/** The value at a path of keys. Own properties only: the text is not ours. */
export const at = (value: unknown, ...path: ReadonlyArray<string>): unknown =>
  path.reduce<unknown>(
    (inner, key) =>
      typeof inner === "object" && inner !== null && Object.hasOwn(inner, key)
        ? Object.getOwnPropertyDescriptor(inner, key)?.value
        : undefined,
    value,
  )

export const string = (value: unknown, ...path: ReadonlyArray<string>): string | undefined => {
  const found = at(value, ...path)
  return typeof found === "string" ? found : undefined
}

export const number = (value: unknown, ...path: ReadonlyArray<string>): number | undefined => {
  const found = at(value, ...path)
  return typeof found === "number" && Number.isFinite(found) ? found : undefined
}

export const array = (value: unknown, ...path: ReadonlyArray<string>): ReadonlyArray<unknown> => {
  const found = at(value, ...path)
  return Array.isArray(found) ? found : []
}

/** The sum of those that are there; `undefined` if none is. */
export const sum = (...parts: ReadonlyArray<number | undefined>): number | undefined =>
  parts.reduce((total, part) => (part === undefined ? total : (total ?? 0) + part), undefined)
