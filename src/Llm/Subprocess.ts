/**
 * `Llm` as real processes: each attempt is one command with its tree, held together so that it ends as a whole.
 */
import { resolve } from "node:path"
import { Clock, Effect, Either, FiberRef, Layer, Redacted, type Scope } from "effect"
import { BudgetExceeded, type LlmError, LlmNotFound, LlmOutputTooLarge, LlmSpawn, LlmTimeout } from "../Job/JobError.js"
import type { Input } from "../Job.js"
import { Llm, type LlmRequest } from "../Llm.js"
import { set } from "../Metrics.js"
import { defaultLimits, OffloadConfig } from "../OffloadConfig.js"
import { LlmConfigError } from "./Adapters.js"
import { isRefusal } from "./Containment.js"
import { allow } from "./Environment.js"
import { find } from "./Executable.js"
import { type Abilities, acquire as acquireLauncher, type Launcher } from "./Launcher.js"
import { identify, makeCookie, variable } from "./Marker.js"
import { killOrphans } from "./Orphans.js"
import { probe } from "./Probe.js"
import { type Ended, make as makeProcessTree, type ProcessTree } from "./ProcessTree.js"
import { makeReport } from "./Report.js"
import { make as makeScratch } from "./Scratch.js"
import { announce, makeSetup, type Setup, troubleNow } from "./Setup.js"
import { makeTail, make as makeTranscript, type Transcript } from "./Transcript.js"
import { none, watch } from "./Watchdog.js"

/** How much of standard error is kept: its end. */
const stderrBytes = 4096

/** How long a command may go on after its final event, in milliseconds: the answer is complete, and paid for. */
const finalMillis = 3000

/** Beside the answer, a command line may tell of tools, thoughts and retries: a multiple of the answer's limit. */
const rawBytes = (maxOutputBytes: number) => ({
  line: 4 * maxOutputBytes + 2 ** 22,
  all: 32 * maxOutputBytes + 2 ** 25,
})

/** How many trees there are. */
let alive = 0

/** The tree of an attempt. Whatever happens to the attempt, it goes on only when the tree is gone. */
const acquireTree = (
  { graceMillis, spares }: Setup,
  onEnding: LlmRequest["onEnding"],
): Effect.Effect<ProcessTree, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      set("offload_children", {}, ++alive)
      return makeProcessTree({ sandboxes: spares, graceMillis })
    }),
    (tree) =>
      Effect.flatMap(
        Effect.promise(() => tree.end()),
        ({ ending, gone }) => {
          set("offload_children", {}, --alive)
          if (ending !== null) onEnding(ending)
          return gone ? Effect.void : Effect.logError("the system did not remove a process that was killed")
        },
      ),
  )

/** The arguments of a request, if a command can take them. */
const argsOf = (
  { adapter }: Setup,
  input: Input,
  maxCostUsd: number | null,
): Effect.Effect<ReadonlyArray<string>, LlmSpawn> => {
  const args = adapter.args(input, maxCostUsd)
  // No command line is known to have a model like that: it would be read as an option.
  const isOption = input.model?.startsWith("-") === true
  return isOption || args.some((arg) => arg.includes("\0"))
    ? new LlmSpawn({
        command: adapter.command,
        code: "EINVAL",
        reason: "the job's model or system prompt is no argument of a command: it begins with '-' or holds a NUL",
      })
    : Effect.succeed(args)
}

/** A command's whole environment. */
const environmentOf = ({ adapter, profile: { user }, resource, service }: Setup, attemptId: string) => ({
  ...allow(process.env, [...adapter.env, ...resource.env]),
  ...(user === null ? {} : { HOME: user.home, USER: user.name, LOGNAME: user.name }),
  [variable]: makeCookie(service.identity, attemptId),
})

/** Resolves to `null` where that takes longer. A timer costs an attempt less than two fibers that race. */
const within = async <A>(millis: number, promise: Promise<A>): Promise<A | null> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, millis, null)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

const call = (setup: Setup, request: LlmRequest): Effect.Effect<void, LlmError, Scope.Scope> =>
  Effect.gen(function* () {
    const { adapter, resource } = setup
    const { command } = adapter
    const input = resource.model === null ? request.input : { model: resource.model, ...request.input }

    const file = yield* Effect.sync(() => find(command))
    if (file === null) return yield* new LlmNotFound({ command })
    const args = yield* argsOf(setup, input, request.maxCostUsd)

    const limits = rawBytes(resource.maxOutputBytes)
    let late: NodeJS.Timeout | undefined
    const transcript = makeTranscript({
      decoder: adapter.decoder({ maxLine: limits.line }),
      maxBytes: resource.maxOutputBytes,
      maxRawBytes: limits.all,
      maxCostUsd: request.maxCostUsd,
      onText: request.onText,
      onUsage: request.onUsage,
      onFinal: () => {
        late = setTimeout(() => void tree.end(), finalMillis)
      },
    })
    const stderr = makeTail(stderrBytes)
    // Released after the tree: what a command says in its grace is still part of the answer.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        clearTimeout(late)
        transcript.end()
      }),
    )

    const tree = yield* acquireTree(setup, request.onEnding)
    const ended = yield* Effect.tryPromise(() =>
      within(
        request.timeoutMillis,
        tree.run({
          argv: [file, ...args],
          cwd: resource.folder,
          env: environmentOf(setup, request.attemptId),
          stdin: adapter.stdin(input),
          onOutput: transcript.push,
          onError: stderr.push,
        }),
      ),
    ).pipe(
      // What the system refuses is a value of `ended`; only a bug of `onText` can be thrown.
      Effect.catchTag("UnknownException", ({ error }) => Effect.die(error)),
    )
    // An answer that is complete has been paid for, whether or not its command had the time to exit.
    if (ended === null && transcript.found().final === undefined) {
      return yield* new LlmTimeout({ millis: request.timeoutMillis, stderr: stderr.text() })
    }
    transcript.end()
    const told = adapter.usageIn?.(stderr.text())
    if (told !== undefined) request.onUsage(told)
    yield* conclude(setup, request, ended ?? stopped, transcript, stderr.text())
  })

/** A command that was not waited for any longer. */
const stopped: Ended = { _tag: "Stopped" }

/** What this service's own watchdog killed is no failure of the command: the attempt is interrupted. */
const unlessKilled = <R>({ watchdog }: Setup, called: Effect.Effect<void, LlmError, R>) =>
  Effect.suspend(() => {
    const since = process.hrtime.bigint()
    return Effect.catchAll(called, (error) =>
      Effect.flatMap(
        Effect.promise(() => watchdog.hasKilledSince(since)),
        (isKilled) => (isKilled ? Effect.interrupt : Effect.fail(error)),
      ),
    )
  })

const conclude = (
  { adapter, refusal }: Setup,
  { input, maxCostUsd }: LlmRequest,
  ended: Ended,
  transcript: Transcript,
  stderr: string,
): Effect.Effect<void, LlmError> => {
  const { final, overBudget, tooLarge, usage } = transcript.found()
  if (overBudget) return new BudgetExceeded({ spentUsd: usage?.costUsd ?? 0, limitUsd: maxCostUsd ?? 0 })
  if (tooLarge !== null) return new LlmOutputTooLarge(tooLarge)
  if (ended._tag === "Refused" && ended.refusal.isCommand) return new LlmNotFound({ command: adapter.command })
  if (ended._tag === "Refused") {
    refusal.reason = ended.refusal.detail
    return new LlmSpawn({ command: adapter.command, code: ended.refusal.code, reason: ended.refusal.detail })
  }
  refusal.reason = null
  const { exitCode, signal } = ended._tag === "Stopped" ? { exitCode: null, signal: null } : ended
  return Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const error = adapter.classify({ input, final, usage, maxCostUsd, exitCode, signal, stderr }, now)
    return error === null ? Effect.void : Effect.fail(error)
  })
}

/** What the launcher of this machine can do; fails where there can be none. */
const abilitiesOf = (launcher: Launcher): Effect.Effect<Abilities, LlmConfigError> =>
  Effect.flatMap(Effect.promise(launcher.open), (opened) =>
    isRefusal(opened)
      ? new LlmConfigError({ reason: `No command can be run: ${opened.detail}.` })
      : Effect.succeed(opened),
  )

/** Runs the command lines of the resources. Fails to build where their settings contradict each other. */
export const layer: Layer.Layer<Llm, LlmConfigError, OffloadConfig> = Layer.scoped(
  Llm,
  Effect.gen(function* () {
    const {
      containment: demanded,
      data,
      killGrace,
      lease,
      redisUrl,
      resources,
      role,
      secretFiles,
    } = yield* OffloadConfig
    const identity = identify(data)
    const hasUsers = resources.some(({ user }) => user !== null)
    const report = yield* makeReport
    const onLeft = (error: Error) => report(Effect.logWarning("a folder of an attempt could not be removed", error))
    const scratch = makeScratch({ identity, data: resolve(data), hasUsers, onLeft })
    yield* Effect.addFinalizer(() => Effect.promise(scratch.close))
    const hidden = { folders: [resolve(data)], files: secretFiles }
    const trouble = scratch.trouble()
    if (trouble !== null) {
      return yield* new LlmConfigError({ reason: `No attempt can have a folder: ${trouble.detail}; see TMPDIR.` })
    }
    // What begins no attempt needs no means to.
    const runs = role !== "api"
    const launcher = yield* acquireLauncher({ scratch, owner: identity.owner }, report)
    const abilities = runs ? yield* abilitiesOf(launcher) : { adopts: false, limits: false }
    const first = { limits: defaultLimits, user: null }
    const found = yield* probe(runs ? demanded : "group", { identity, scratch, hidden, launcher }, abilities, first)
    if (Either.isLeft(found)) {
      return yield* new LlmConfigError({
        reason: `OFFLOAD_CONTAINMENT is \`namespace\`, but this machine gives none: ${found.left}.`,
      })
    }
    const { service, why } = found.right
    const { cgroups } = service
    // Its groups are empty when the launcher has ended.
    if (cgroups !== null) yield* Effect.addFinalizer(() => Effect.promise(() => launcher.close().then(cgroups.close)))

    // Nobody else begins the attempts of a process that has its store for itself.
    const isWatched = Redacted.value(redisUrl) !== "" && runs
    const watchdog = isWatched ? yield* watch(identity.owner, lease / 2) : none

    const setups = yield* Effect.forEach(resources, (resource) =>
      makeSetup({ resource, runs, service, watchdog, graceMillis: killGrace }),
    )
    const setupOf = new Map(setups.map((setup): readonly [string, Setup] => [setup.resource.name, setup]))
    if (runs) yield* announce(service, why, setups)
    const isTraced = yield* FiberRef.get(FiberRef.currentTracerEnabled)

    return {
      adapter: (resource: string) => setupOf.get(resource)?.adapter.name ?? "none",
      command: (resource: string) => setupOf.get(resource)?.adapter.command ?? "none",
      run: (request: LlmRequest) => {
        const setup = setupOf.get(request.resource)
        if (setup === undefined) return Effect.dieMessage(`The resource '${request.resource}' is not configured.`)
        const run = Effect.annotateLogs(Effect.scoped(unlessKilled(setup, call(setup, request))), { module: "Llm" })
        const attributes = { resource: request.resource, attempt: request.attemptId, adapter: setup.adapter.name }
        // A span has its price where nobody traces, too.
        return isTraced ? Effect.withSpan(run, "Llm.run", { attributes }) : run
      },
      // Who runs no attempt can do without a folder for one.
      trouble: runs ? Effect.suspend(() => troubleNow(scratch, setups)) : Effect.succeed(null),
      killOrphans: killOrphans(service),
    }
  }).pipe(Effect.annotateLogs({ module: "Llm" })),
)
