/** Finds out how the processes of an attempt can be held together on this machine, by doing it. */
import { tmpdir } from "node:os"
import { Effect } from "effect"
import { type Argv, type Containment, group, type Mode, namespaces } from "./Containment.js"
import { make } from "./ProcessTree.js"
import { makeTail } from "./Transcript.js"

/** The longest that one trial may take. */
const trialMillis = 5000

/** How much of its standard error is kept: its end. */
const stderrBytes = 4096

/** Ends with 7 after a SIGTERM to its group: with anything else where a signal ends more than the command. */
const trial: Argv = ["/bin/sh", "-c", "trap 'exit 7' TERM; kill -TERM 0; exit 8"]

const works = (containment: Containment): Effect.Effect<boolean> =>
  Effect.acquireUseRelease(
    Effect.sync(() => make({ containment, graceMillis: 0, killStrays: async () => false })),
    (tree) => {
      const stderr = makeTail(stderrBytes)
      const none = (why: unknown) =>
        Effect.annotateLogs(Effect.logDebug("no PID namespace", why), {
          tried: containment.wrap(["…"]).slice(0, -5).join(" "),
          stderr: stderr.text(),
        }).pipe(Effect.as(false))
      return Effect.tryPromise(() =>
        tree.run({
          argv: trial,
          cwd: tmpdir(),
          env: { PATH: process.env.PATH ?? "" },
          stdin: "",
          onOutput: () => true,
          onError: stderr.push,
        }),
      ).pipe(
        Effect.timeout(trialMillis),
        Effect.flatMap((ended) =>
          ended._tag === "Exited" && ended.exitCode === 7 ? Effect.succeed(true) : none(ended),
        ),
        Effect.catchAll(none),
      )
    },
    (tree) => Effect.promise(() => tree.end()),
  )

/** What is demanded, or the first that works. `null` where a namespace was demanded and there is none. */
export const probe = (demanded: Mode | "auto"): Effect.Effect<Containment | null> =>
  demanded === "group"
    ? Effect.succeed(group)
    : Effect.map(Effect.findFirst(namespaces, works), (found) =>
        found._tag === "Some" ? found.value : demanded === "auto" ? group : null,
      )
