/** Finds out how the processes of an attempt can be held together on this machine, by doing it. */
import { tmpdir } from "node:os"
import { Effect, type Scope } from "effect"
import type { Argv, Containment, Mode } from "./Containment.js"
import type { Identity } from "./Cookie.js"
import { group } from "./Group.js"
import { namespaces } from "./Namespace.js"
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

/**
 * What is demanded, or the first that works; it is closed with the scope. `null` where a namespace was demanded and
 * there is none.
 */
export const probe = (
  demanded: Mode | "auto",
  identity: Identity,
): Effect.Effect<Containment | null, never, Scope.Scope> => {
  if (demanded === "group") return Effect.succeed(group)
  const candidates = Effect.forEach(namespaces(identity), (containment) =>
    Effect.acquireRelease(Effect.succeed(containment), ({ close }) => Effect.promise(close)),
  )
  return Effect.map(Effect.flatMap(candidates, Effect.findFirst(works)), (found) =>
    found._tag === "Some" ? found.value : demanded === "auto" ? group : null,
  )
}
