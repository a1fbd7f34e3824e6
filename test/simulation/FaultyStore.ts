/**
 * A store in front of another one that is not always well: calls fail before they are made, or are made and fail all
 * the same; some take their time, some hang for as long as the contract lets them.
 */
import { Effect } from "effect"
import { type Store, StoreError } from "../../src/Store.js"
import { through } from "./through.js"

/**
 * - `none`: the call is made.
 * - `before`: it fails, and is not made.
 * - `after`: it is made, and its answer is lost.
 * - `delay`: it is made late.
 * - `hang`, `hangAfter`: as `before` and `after`, but the caller learns of it after 2 s.
 */
export const faults = ["none", "before", "after", "delay", "hang", "hangAfter"] as const
export type Fault = (typeof faults)[number]

export interface Options {
  /** What happens to the next call; `dead`: neither it nor its caller goes on. */
  readonly next: (operation: string) => Fault | "dead"
  /** How time passes. Default: by sleeping. */
  readonly pause?: (millis: number) => Effect.Effect<void>
}

/** What the contract allows. */
const hangMillis = 2000
const delayMillis = 700

export const make = (store: Store["Type"], { next, pause = Effect.sleep }: Options): Store["Type"] =>
  through(
    () => store,
    (operation, call) => {
      const failed = Effect.suspend(
        () => new StoreError({ operation, reason: "unavailable", detail: "a fault that was asked for" }),
      )
      return Effect.suspend(() => {
        switch (next(operation)) {
          case "dead":
            return Effect.never
          case "none":
            return call
          case "before":
            return failed
          case "after":
            return Effect.zipRight(call, failed)
          case "delay":
            return Effect.zipRight(pause(delayMillis), call)
          case "hang":
            return Effect.zipRight(pause(hangMillis), failed)
          case "hangAfter":
            return Effect.zipRight(Effect.zipLeft(call, pause(hangMillis)), failed)
        }
      })
    },
  )
