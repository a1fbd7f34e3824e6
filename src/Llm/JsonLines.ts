/**
 * Decoders for standard output that has one JSON value a line, and a lenient way to read what is in them: a field
 * that is missing or of another type is `undefined`, and a line that is no JSON is given as it is.
 */
import * as Plausible from "../Job/Plausible.js"
import type { Decoder, Event } from "./Adapter.js"

/** What a command line makes of its lines. */
export interface Lines {
  readonly value: (value: unknown) => ReadonlyArray<Event>
  /**
   * Whether a long line can be a part of the answer, or its end, by what stands at its beginning: members that are not
   * there yet are absent. A line that cannot is left out, however long it is. Default: any line can.
   */
  readonly isAnswer?: (beginning: unknown) => boolean
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

/** A string, or one of the characters that give JSON its shape. */
const piece = /"(?:[^"\\]|\\[\s\S])*(?:"|\\?$)|[{}[\],]/g

/**
 * The value of a text that is cut off: its members up to the one in which the text ends. `undefined`: it is no
 * beginning of an object.
 */
export const parseBeginning = (text: string): unknown => {
  let closers = ""
  /** Where a value has ended last, and what closes those that are open there. */
  let complete = { end: 0, closers: "" }
  for (const { 0: found, index } of text.matchAll(piece)) {
    if (found === "{") closers = `}${closers}`
    else if (found === "[") closers = `]${closers}`
    else if (found === "}" || found === "]") closers = closers.slice(1)
    else if (found !== ",") continue
    complete = { end: found === "," ? index : index + 1, closers }
  }
  return text.trimStart().startsWith("{") ? parse(text.slice(0, complete.end) + complete.closers) : undefined
}

/** A line that is longer than this is looked at before more of it is kept, in UTF-16 units. */
const headLength = 65_536

/**
 * Splits at line feeds, whatever the pieces it is given. A line that is longer than `maxLine` ends it with `TooLong`,
 * where it can be a part of the answer; a long line that cannot is left out without being kept.
 */
export const decoder = (
  { value, other = () => [], isAnswer = () => true, end = () => [] }: Lines,
  maxLine: number,
): Decoder => {
  let partial = ""
  /** What becomes of the rest of the line. */
  let rest: "look" | "keep" | "skip" = "look"

  const read = (line: string): ReadonlyArray<Event> => {
    if (line.trim() === "") return []
    const parsed = parse(line)
    return parsed === undefined ? other(line) : value(parsed)
  }

  const add = (piece: string): void => {
    if (rest === "skip") return
    partial += piece
    if (rest === "keep" || partial.length <= Math.min(headLength, maxLine)) return
    const beginning = parseBeginning(partial.slice(0, headLength))
    rest = beginning !== undefined && isAnswer(beginning) ? "keep" : "skip"
    if (rest === "skip") partial = ""
  }

  const take = (): ReadonlyArray<Event> => {
    const events = rest === "skip" ? [] : read(partial)
    partial = ""
    rest = "look"
    return events
  }

  return {
    push: (text) => {
      const events: Array<Event> = []
      for (let from = 0; ; ) {
        const feed = text.indexOf("\n", from)
        add(text.slice(from, feed === -1 ? undefined : feed))
        if (partial.length > maxLine) return [...events, { _tag: "TooLong" }]
        if (feed === -1) return events
        events.push(...take())
        from = feed + 1
      }
    },
    end: () => [...take(), ...end()],
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

/** A number of tokens, if it can be true. */
export const tokens = (value: unknown, ...path: ReadonlyArray<string>): number | undefined =>
  Plausible.count(at(value, ...path))

/** A price in US dollars, if it can be true. */
export const cost = (value: unknown, ...path: ReadonlyArray<string>): number | undefined =>
  Plausible.amount(at(value, ...path))

export const array = (value: unknown, ...path: ReadonlyArray<string>): ReadonlyArray<unknown> => {
  const found = at(value, ...path)
  return Array.isArray(found) ? found : []
}

/** The sum of those that are there; `undefined` if none is. */
export const sum = (...parts: ReadonlyArray<number | undefined>): number | undefined =>
  parts.reduce((total, part) => (part === undefined ? total : (total ?? 0) + part), undefined)
