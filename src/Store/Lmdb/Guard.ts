/** Watches over the folder of a store: that it is still the one that was opened, and that its disk has room. */
import { statSync } from "node:fs"
import { join } from "node:path"
import { Clock, Effect, Option, Schedule, type Scope } from "effect"
import type { Room } from "./Room.js"

const lookMillis = 1000

export interface Guard {
  /** Whether the folder's file is no more the one that was opened. Once it is not, it never is again. */
  readonly isLost: () => boolean
}

/** Which file it is; `null`: there is none. */
const identity = (path: string): string | null =>
  Option.getOrNull(
    Option.liftThrowable(() => {
      const { dev, ino } = statSync(join(path, "data.mdb"))
      return `${dev}:${ino}`
    })(),
  )

/** Of a folder that is open. */
export const make = (path: string): Guard => {
  const opened = identity(path)
  let isLost = false
  return {
    isLost: () => {
      isLost ||= identity(path) !== opened
      return isLost
    },
  }
}

/** What a write to a folder that is gone is refused with. */
export const lost = (path: string): string => `the folder '${path}' was deleted or replaced while the service runs`

/** Says in the log what has happened to the folder, once each, and keeps its ballast, for as long as the scope lasts. */
export const watch = (guard: Guard, room: Room, path: string): Effect.Effect<void, never, Scope.Scope> => {
  let wasLost = false
  let wasShort = false

  const look = Effect.suspend(() => {
    if (wasLost) return Effect.void
    wasLost = guard.isLost()
    if (wasLost) {
      return Effect.logError(
        `${lost(path)}: no job is taken on. What it held is gone when the service ends. Stop the service: outcomes of attempts that run are kept in OFFLOAD_DATA/spool. Bring the folder back, and start it again.`,
      )
    }
    const isShort = !room.isAboveMark()
    const hasChanged = isShort !== wasShort
    wasShort = isShort
    const told = !hasChanged
      ? Effect.void
      : isShort
        ? Effect.logError(
            `the disk of '${path}' is full: no job is taken on. Jobs can be read, cancelled and removed, and end. It goes on by itself when there is room.`,
          )
        : Effect.logInfo(`the disk of '${path}' has room again: jobs are taken on`)
    return Effect.zipRight(told, isShort || room.hasBallast() ? Effect.void : restore)
  })

  // At once: a disk may fill up before the first look.
  const restore = Effect.tryPromise(() => room.restore()).pipe(
    Effect.catchAll((error) => Effect.logWarning(`no room was kept for bad times: ${String(error.error)}`)),
  )

  const looks = look.pipe(
    Effect.delay(lookMillis),
    Effect.repeat(Schedule.forever),
    // A disk does not know of a test's time.
    Effect.withClock(Clock.make()),
    Effect.annotateLogs({ module: "Store" }),
    Effect.forkScoped,
  )
  return Effect.asVoid(Effect.zipRight(restore, looks))
}
