/** Watches over the folder of a store: that it is still the one that was opened, and that its disk has room. */
import { statSync } from "node:fs"
import { join } from "node:path"
import { Clock, Effect, Option, Schedule, type Scope } from "effect"
import type { Room } from "./Room.js"

const lookMillis = 1000

export interface Guard {
  /** Whether the file under the folder's name is not the one that was opened. One that was moved away may come back. */
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
  return { isLost: () => identity(path) !== opened }
}

/** What a write to a folder that is gone is refused with. */
export const lost = (path: string): string => `the folder '${path}' was deleted or replaced while the service runs`

/** Says in the log what has happened to the folder, once each, and keeps its ballast, for as long as the scope lasts. */
export const watch = (guard: Guard, room: Room, path: string): Effect.Effect<void, never, Scope.Scope> => {
  let wasLost = false
  let wasShort = false

  const look = Effect.suspend(() => {
    const isLost = guard.isLost()
    const isBack = wasLost && !isLost
    const isNews = isLost && !wasLost
    wasLost = isLost
    if (isNews) {
      return Effect.logError(
        `${lost(path)}: no job is taken on. Bring the folder back. Where it was deleted, what it held is gone when the service ends: stop the service, whose running attempts keep their outcomes in OFFLOAD_DATA/spool.`,
      )
    }
    if (isBack) return Effect.logInfo(`the folder '${path}' is back: jobs are taken on`)
    if (isLost) return Effect.void
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
