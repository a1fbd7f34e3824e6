/**
 * What earlier runs of this service left behind: processes, their control groups, and the folders that they worked in.
 */
import { Effect } from "effect"
import { isLeftBehind } from "./Marker.js"
import { killWhere } from "./Processes.js"
import type { Service } from "./Sandbox.js"

/** Kills and removes it; answers how many processes that were. */
export const killOrphans = ({ cgroups, identity, scratch }: Service): Effect.Effect<number> =>
  Effect.promise(async () => {
    const grouped = (await cgroups?.sweep()) ?? 0
    const { killed, left } = await killWhere(isLeftBehind(identity))
    return { killed: grouped + killed, left }
  }).pipe(
    Effect.tap(({ left }) =>
      left ? Effect.logError("processes of an earlier run could not be killed: the ceiling may not hold") : Effect.void,
    ),
    Effect.map(({ killed }) => killed),
    Effect.zipLeft(scratch.sweep),
    Effect.annotateLogs({ module: "Llm" }),
    Effect.withSpan("Llm.killOrphans"),
  )
