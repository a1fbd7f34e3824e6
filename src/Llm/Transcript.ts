/**
 * From the bytes of standard output to the pieces of the answer: decoded, limited, and never cut inside a character.
 */
import * as Plausible from "../Job/Plausible.js"
import type { Usage } from "../Job.js"
import type { Complaint, Decoder, Event } from "./Adapter.js"

export interface Transcript {
  /** Takes a chunk; answers whether it wants more. */
  readonly push: (chunk: Uint8Array) => boolean
  /** Standard output has ended: gives what was held back. To be called at least once; later calls do nothing. */
  readonly end: () => void
  /** What has been found out so far. */
  readonly found: () => {
    readonly final: Complaint | null | undefined
    readonly usage: Usage | undefined
    /** Which limit was passed before the answer was complete: text was left out then. `null`: none. */
    readonly tooLarge: TooLarge | null
    /** Whether the limit of the cost was passed before the answer was complete. */
    readonly overBudget: boolean
  }
}

/** A limit that was passed: of the answer, or of all standard output. */
export interface TooLarge {
  readonly what: "answer" | "output"
  readonly limitBytes: number
}

export interface Options {
  readonly decoder: Decoder
  /** The longest answer, in UTF-8. */
  readonly maxBytes: number
  /** The longest standard output up to the final event, where it holds more than the answer. */
  readonly maxRawBytes: number
  /** In US dollars; `null`: no limit. */
  readonly maxCostUsd: number | null
  readonly onText: (text: string) => void
  readonly onUsage: (usage: Usage) => void
  /** Called once, when the final event was decoded and what came before it was given. Default: does nothing. */
  readonly onFinal?: () => void
}

const isHighSurrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdbff

/** The longest beginning of `text` that fits, in whole characters. */
const fitting = (text: string, bytes: number): string =>
  // Three bytes a unit are the most there can be: no need to encode what fits for certain.
  text.length * 3 <= bytes
    ? text
    : text.slice(0, new TextEncoder().encodeInto(text, new Uint8Array(Math.min(bytes, text.length * 3))).read)

/** What is known of the use by now. It never gets less, and what cannot be true is not taken. */
const gathered = (before: Usage | undefined, told: Usage): Usage => {
  const usage = { ...before, ...Plausible.usage(told) }
  const costs = [before?.costUsd, usage.costUsd].filter((cost) => cost !== undefined)
  return costs.length === 0 ? usage : { ...usage, costUsd: Math.max(...costs) }
}

export const make = ({
  decoder,
  maxBytes,
  maxCostUsd,
  maxRawBytes,
  onFinal = () => {},
  onText,
  onUsage,
}: Options): Transcript => {
  const utf8 = new TextDecoder("utf-8")
  let bytes = 0
  let rawBytes = 0
  /** The first half of a character whose second half comes with the next piece. */
  let half = ""
  let usage: Usage | undefined
  let final: Complaint | null | undefined
  let tooLarge: TooLarge | null = null
  let over = false

  // An answer that is complete has been paid for, whatever it cost.
  const overBudget = (): boolean => maxCostUsd !== null && (usage?.costUsd ?? 0) > maxCostUsd && final === undefined

  const isFull = (): boolean => tooLarge !== null || overBudget()

  const give = (text: string, isLast: boolean): void => {
    let whole = half + text
    half = ""
    if (!isLast && isHighSurrogate(whole.charCodeAt(whole.length - 1))) {
      half = whole.slice(-1)
      whole = whole.slice(0, -1)
    }
    // JSON can spell half a character, UTF-8 cannot.
    whole = whole.replace(/\p{Surrogate}/gu, "\ufffd")
    const kept = fitting(whole, maxBytes - bytes)
    if (kept.length < whole.length) tooLarge = { what: "answer", limitBytes: maxBytes }
    bytes += Buffer.byteLength(kept)
    if (kept !== "") onText(kept)
  }

  const take = (events: ReadonlyArray<Event>): void => {
    let text = ""
    for (const event of events) {
      if (final !== undefined) break
      if (event._tag === "Text") text += event.text
      else if (event._tag === "Usage") {
        usage = gathered(usage, event.usage)
        onUsage(usage)
      } else if (event._tag === "Final") final = event.complaint
      else tooLarge = { what: "answer", limitBytes: maxBytes }
    }
    give(text, over || final !== undefined)
    if (final !== undefined) onFinal()
  }

  return {
    push: (chunk) => {
      if (over || isFull()) return false
      // The answer has ended: what comes now is neither decoded nor counted.
      if (final !== undefined) return true
      rawBytes += chunk.byteLength
      if (rawBytes > maxRawBytes) tooLarge = { what: "output", limitBytes: maxRawBytes }
      else take(decoder.push(utf8.decode(chunk, { stream: true })))
      return !isFull()
    },
    end: () => {
      if (over) return
      over = true
      if (tooLarge === null && final === undefined) take([...decoder.push(utf8.decode()), ...decoder.end()])
    },
    found: () => ({ final, usage, tooLarge, overBudget: overBudget() }),
  }
}

/** The end of a stream that is read to be thrown away. */
export const makeTail = (maxBytes: number) => {
  let kept = Buffer.alloc(0)
  return {
    push: (chunk: Uint8Array): void => {
      const joined = Buffer.concat([kept, chunk.subarray(Math.max(0, chunk.byteLength - maxBytes))])
      // A copy, so that a few bytes do not keep a large chunk alive.
      kept = Buffer.from(joined.subarray(Math.max(0, joined.byteLength - maxBytes)))
    },
    /** Without the rest of a character that was cut, and without blanks at its ends. */
    text: (): string =>
      kept
        .toString("utf8")
        .replace(/^\ufffd+/, "")
        .trim(),
  }
}
