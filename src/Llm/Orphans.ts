/**
 * What earlier runs of this service left behind: processes, and the folders that they worked in.
 */
import { Effect } from "effect"
import { type Identity, isAbandoned, parse, variable } from "./Cookie.js"
import { sweep } from "./Folder.js"
import { killWhere } from "./Procfs.js"

/** Kills and removes it; answers how many processes that were. */
export const killOrphans = (identity: Identity): Effect.Effect<number> =>
  Effect.promise(() =>
    killWhere(variable, (cookie) => {
      const theirs = parse(cookie)
      return theirs !== null && isAbandoned(identity, theirs)
    }),
  ).pipe(
    Effect.tap(({ left }) =>
      left ? Effect.logError("processes of an earlier run could not be killed: the ceiling may not hold") : Effect.void,
    ),
    Effect.map(({ killed }) => killed),
    Effect.zipLeft(sweep(identity)),
    Effect.annotateLogs({ module: "Llm" }),
    Effect.withSpan("Llm.killOrphans"),
  )
