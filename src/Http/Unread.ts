/**
 * How many bytes wait for readers: a client that asks and does not read keeps its answers in memory, and may keep only so
 * many of them.
 */
import type { ServerResponse } from "node:http"
import { Context, Effect, Layer } from "effect"
import { OffloadConfig } from "../OffloadConfig.js"
import type { Caller } from "./Caller.js"
import { Problem } from "./Problem.js"

/** What is smaller is not counted: how many connections there are bounds it. */
const leastBytes = 16_384

export class Unread extends Context.Tag("effect-offload/Unread")<
  Unread,
  {
    /** Counts bytes that wait for a caller until what it gives is called; `null` where there may be no more. */
    readonly hold: (caller: Caller["Type"], bytes: number) => (() => void) | null
    /** Counts an answer until it has been handed over; `false` where there may be no more. */
    readonly holdAnswer: (caller: Caller["Type"], bytes: number, response: ServerResponse) => boolean
  }
>() {
  static readonly layer: Layer.Layer<Unread, never, OffloadConfig> = Layer.effect(
    Unread,
    Effect.map(OffloadConfig, ({ callers, maxUnread }) => {
      const perCaller = callers.length > 0 ? Math.ceil(maxUnread / 2) : maxUnread
      const waiting = new Map<string, number>()
      let all = 0

      const count = (name: string, bytes: number): void => {
        const now = (waiting.get(name) ?? 0) + bytes
        all += bytes
        if (now > 0) waiting.set(name, now)
        else waiting.delete(name)
      }

      const hold: Unread["Type"]["hold"] = ({ name }, bytes) => {
        const own = waiting.get(name) ?? 0
        // One answer a caller may always have, however large it is.
        if (own > 0 && (own + bytes > perCaller || all + bytes > maxUnread)) return null
        let isHeld = true
        count(name, bytes)
        return () => {
          if (isHeld) count(name, -bytes)
          isHeld = false
        }
      }

      return {
        hold,
        holdAnswer: (caller, bytes, response) => {
          if (bytes < leastBytes) return true
          const release = hold(caller, bytes)
          if (release !== null) response.once("close", release)
          return release !== null
        },
      }
    }),
  )
}

/** In place of an answer that would wait beside too many others; what the call did is done. */
export const tooManyUnread = (location: string | undefined): Problem =>
  new Problem({
    slug: "too-many-unread",
    detail:
      location === undefined
        ? "Earlier answers wait for the caller to read them."
        : `Earlier answers wait for the caller to read them. The job is saved: ${location}.`,
    headers: { "retry-after": "5", ...(location === undefined ? {} : { location }) },
  })
