/** Finds out how the processes of an attempt can be held together on this machine, by doing it. */
import { tmpdir } from "node:os"
import { Effect } from "effect"
import { type Argv, type Containment, group, type Mode, namespaces } from "./Containment.js"
import { type Ended, make, type ProcessTree } from "./ProcessTree.js"

/** The longest that one trial may take. */
const trialMillis = 5000

/** Ends with 7 after a SIGTERM to its group: with anything else where a signal ends more than the command. */
const trial: Argv = ["/bin/sh", "-c", "trap 'exit 7' TERM; kill -TERM 0; exit 8"]

const run = (tree: ProcessTree, onError: (chunk: Uint8Array) => void): Effect.Effect<Ended | null> =>
  Effect.tryPromise(() =>
    tree.run({
      argv: trial,
      cwd: tmpdir(),
      env: { PATH: process.env.PATH ?? "" },
      stdin: "",
      onOutput: () => true,
      onError,
    }),
  ).pipe(
    Effect.timeout(trialMillis),
    Effect.catchAll((error) => Effect.as(Effect.logDebug("a trial of a PID namespace failed", error), null)),
  )

const works = (containment: Containment): Effect.Effect<boolean> =>
  Effect.acquireUseRelease(
    Effect.sync(() => make({ containment, graceMillis: 0, killStrays: async () => false })),
    (tree) =>
      Effect.gen(function* () {
        let stderr = ""
        const ended = yield* run(tree, (chunk) => {
          stderr += Buffer.from(chunk).toString()
        })
        if (ended?._tag === "Exited" && ended.exitCode === 7) return true
        const tried = containment.wrap(["…"]).slice(0, -5).join(" ")
        yield* Effect.annotateLogs(Effect.logDebug("no PID namespace"), { tried, stderr })
        return false
      }),
    (tree) => Effect.promise(() => tree.end()),
  )

/** What is demanded, or the first that works. `null` where a namespace was demanded and there is none. */
export const probe = (demanded: Mode | "auto"): Effect.Effect<Containment | null> =>
  demanded === "group"
    ? Effect.succeed(group)
    : Effect.map(Effect.findFirst(namespaces, works), (found) =>
        found._tag === "Some" ? found.value : demanded === "auto" ? group : null,
      )
