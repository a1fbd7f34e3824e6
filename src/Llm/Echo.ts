/**
 * What of a text a job's caller may have put there. Command lines repeat prompts, system prompts and names of models
 * in what they complain of; whatever stands there, the caller decides on, and so it proves nothing of a downstream.
 *
 * Texts are compared folded: without case, accents, blanks and punctuation, with the escapes of JSON, URLs, HTML and
 * terminals undone, so that an echo is found whether it was quoted, escaped, indented or wrapped.
 */
import type { Input } from "../Job.js"

/** The caller's own words. */
export interface Own {
  /** The text without what repeats them: each echo becomes one NUL, which no pattern goes across. */
  readonly strip: (text: string) => string
  /** Whether something is in them, as they stand or without their punctuation. */
  readonly some: (holds: (text: string) => boolean) => boolean
}

/** So many folded characters in a row, in both texts, are an echo. */
const runLength = 12

const escape =
  /\\+u\{?[\da-f]{4,6}\}?|\\+x[\da-f]{2}|\\+[nrtbfv0]|%[\da-f]{2}|&(?:#x?[\da-f]{1,6}|[a-z]{2,8});|\p{Cc}\[[\d;]*[a-z]/giu

/** The character that an escape stands for, where that could be a letter or a digit. */
const unescape = (text: string): string => {
  const [, hex = ""] = /^(?:\\+[ux]\{?|%)([\da-f]{2,6})/i.exec(text) ?? []
  const code = Number.parseInt(hex, 16)
  return code > 32 && code <= 0x10ffff ? String.fromCodePoint(code) : " "
}

const plain = (text: string): string => text.replace(escape, unescape).toLowerCase().normalize("NFKD")

/** The letters and digits of a text. */
const fold = (text: string): string => plain(text).replace(/[^\p{L}\p{N}]+/gu, "")

/** Its words, with one blank between them. */
const spaced = (text: string): string => plain(text).replace(/[^\p{L}\p{N}]+/gu, " ")

/** A folded text, and where in the text itself each of its characters stands. */
interface Folded {
  readonly text: string
  readonly starts: ReadonlyArray<number>
  readonly ends: ReadonlyArray<number>
}

const token = new RegExp(`${escape.source}|[\\s\\S]`, "giu")

const foldInPlace = (text: string): Folded => {
  let folded = ""
  const starts: Array<number> = []
  const ends: Array<number> = []
  for (const match of text.matchAll(token)) {
    const letters = fold(match[0])
    folded += letters
    for (let i = 0; i < letters.length; i++) {
      starts.push(match.index)
      ends.push(match.index + match[0].length)
    }
  }
  return { text: folded, starts, ends }
}

/** Goes over every run of a text with a number that is the same for the same run. */
const forEachRun = (text: string, visit: (hash: number, at: number) => void): void => {
  let top = 1
  for (let i = 0; i < runLength; i++) top = Math.imul(top, 31)
  let hash = 0
  for (let i = 0; i < text.length; i++) {
    hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0
    if (i >= runLength) hash = (hash - Math.imul(top, text.charCodeAt(i - runLength))) | 0
    if (i >= runLength - 1) visit(hash, i + 1 - runLength)
  }
}

/** Where in a folded text runs of the other one stand. In one pass over each: neither of them is ours. */
const sharedRuns = (text: string, own: string): ReadonlyArray<number> => {
  const places = new Map<number, Array<number>>()
  forEachRun(text, (hash, at) => {
    const found = places.get(hash)
    if (found === undefined) places.set(hash, [at])
    else found.push(at)
  })
  const shared: Array<number> = []
  forEachRun(own, (hash) => {
    const found = places.get(hash)
    if (found === undefined) return
    // Two runs with one number are taken for the same: at worst a word too much is not believed.
    shared.push(...found)
    places.delete(hash)
  })
  return shared
}

const isLetter = (text: string): boolean => fold(text) !== ""

/** Where a short text of the caller stands in a folded one, as whole words: it may be a word of any language. */
const wholeWords = (raw: string, { ends, starts, text }: Folded, own: string): ReadonlyArray<number> => {
  const found: Array<number> = []
  for (let at = text.indexOf(own); at !== -1; at = text.indexOf(own, at + 1)) {
    const before = raw.charAt((starts[at] ?? 0) - 1)
    const after = raw.charAt(ends[at + own.length - 1] ?? raw.length)
    if (!isLetter(before) && !isLetter(after)) found.push(at)
  }
  return found
}

const strip = (raw: string, own: ReadonlyArray<string>): string => {
  const folded = foldInPlace(raw)
  const isEcho = new Uint8Array(raw.length)
  const mark = (at: number, length: number): void => {
    isEcho.fill(1, folded.starts[at], folded.ends[at + length - 1])
  }
  for (const each of own) {
    if (each === "") continue
    if (each.length < runLength) for (const at of wholeWords(raw, folded, each)) mark(at, each.length)
    else for (const at of sharedRuns(folded.text, each)) mark(at, runLength)
  }
  let rest = ""
  for (let at = 0; at < raw.length; at++) {
    if (isEcho[at] === 0) rest += raw.charAt(at)
    else if (at === 0 || isEcho[at - 1] === 0) rest += "\0"
  }
  return rest
}

/** The words of a job's caller. Nothing is looked at before it is asked for: a prompt may be long. */
export const own = ({ model = "", prompt, system = "" }: Input): Own => {
  const fields = [prompt, system, model].filter((field) => field !== "")
  return {
    strip: (text) =>
      strip(
        text,
        [...fields, system + prompt].map((field) => fold(field)),
      ),
    some: (holds) => fields.some((field) => holds(field) || holds(spaced(field))),
  }
}
