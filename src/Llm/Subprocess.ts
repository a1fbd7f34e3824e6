/**
 * `Llm` as real processes: each attempt is one command with its tree, held together so that it ends as a whole.
 */
import { Clock, Effect, FiberRef, Layer, Redacted, type Scope } from "effect"
import { BudgetExceeded, type LlmError, LlmNotFound, LlmOutputTooLarge, LlmSpawn, LlmTimeout } from "../Job/JobError.js"
import type { Input } from "../Job.js"
import { Llm, type LlmRequest } from "../Llm.js"
import { set } from "../Metrics.js"
import { OffloadConfig, type Resource } from "../OffloadConfig.js"
import type { Adapter } from "./Adapter.js"
import { LlmConfigError, select } from "./Adapters.js"
import type { Containment } from "./Containment.js"
import { type Identity, identify, make as makeCookie, variable } from "./Cookie.js"
import { allow } from "./Environment.js"
import { find } from "./Executable.js"
import { make as makeFolder } from "./Folder.js"
import { limited } from "./Limits.js"
import { killOrphans } from "./Orphans.js"
import { probe } from "./Probe.js"
import { type Ended, make as makeProcessTree, type ProcessTree } from "./ProcessTree.js"
import { killWhere } from "./Procfs.js"
import { codeOf } from "./Spawn.js"
import { makeTail, make as makeTranscript, type Transcript } from "./Transcript.js"
import { none, type Watchdog, watch } from "./Watchdog.js"

/** How much of standard error is kept: its end. */
const stderrBytes = 4096

/** What all attempts of a resource share. */
interface Setup {
  readonly resource: Resource
  readonly adapter: Adapter
  readonly containment: Containment
  readonly identity: Identity
  readonly graceMillis: number
  readonly watchdog: Watchdog
}

/** Beside the answer, a command line may tell of tools, thoughts and retries: a multiple of the answer's limit. */
const rawBytes = (maxOutputBytes: number) => ({
  line: 4 * maxOutputBytes + 2 ** 22,
  all: 32 * maxOutputBytes + 2 ** 25,
})

/** How many trees there are. */
let alive = 0

/** The tree of an attempt. Whatever happens to the attempt, it goes on only when the tree is gone. */
const acquireTree = (
  { containment, graceMillis }: Setup,
  cookie: string,
  onEnding: LlmRequest["onEnding"],
): Effect.Effect<ProcessTree, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      set("offload_children", {}, ++alive)
      return makeProcessTree({
        containment,
        graceMillis,
        killStrays: async () => (await killWhere(variable, (value) => value === cookie)).left,
      })
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
    ? new LlmSpawn({ command: adapter.command, code: "EINVAL" })
    : Effect.succeed(args)
}

/** Where an attempt works: a folder of its own, or the one that the resource names. */
const folderOf = ({ adapter, identity, resource }: Setup) =>
  resource.folder === null
    ? Effect.mapError(
        makeFolder(identity),
        ({ error }) => new LlmSpawn({ command: adapter.command, code: codeOf(error) }),
      )
    : Effect.succeed(resource.folder)

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
    const { adapter, identity, resource } = setup
    const { command } = adapter
    const input = resource.model === null ? request.input : { model: resource.model, ...request.input }

    const file = yield* Effect.sync(() => find(command))
    if (file === null) return yield* new LlmNotFound({ command })
    const args = yield* argsOf(setup, input, request.maxCostUsd)
    const cwd = yield* folderOf(setup)

    const limits = rawBytes(resource.maxOutputBytes)
    const transcript = makeTranscript({
      decoder: adapter.decoder({ maxLine: limits.line }),
      maxBytes: resource.maxOutputBytes,
      maxRawBytes: limits.all,
      maxCostUsd: request.maxCostUsd,
      onText: request.onText,
      onUsage: request.onUsage,
    })
    const stderr = makeTail(stderrBytes)
    // Released after the tree: what a command says in its grace is still part of the answer.
    yield* Effect.addFinalizer(() => Effect.sync(transcript.end))

    const cookie = makeCookie(identity, request.attemptId)
    const tree = yield* acquireTree(setup, cookie, request.onEnding)
    const ended = yield* Effect.tryPromise(() =>
      within(
        request.timeoutMillis,
        tree.run({
          argv: limited(resource.limits, [file, ...args]),
          cwd,
          env: { ...allow(process.env, [...adapter.env, ...resource.env]), [variable]: cookie },
          stdin: adapter.stdin(input),
          onOutput: transcript.push,
          onError: stderr.push,
        }),
      ),
    ).pipe(
      // What the system refuses is a value of `ended`; only a bug of `onText` can be thrown.
      Effect.catchTag("UnknownException", ({ error }) => Effect.die(error)),
    )
    if (ended === null) return yield* new LlmTimeout({ millis: request.timeoutMillis })
    transcript.end()
    const told = adapter.usageIn?.(stderr.text())
    if (told !== undefined) request.onUsage(told)
    yield* conclude(setup, request, ended, transcript, stderr.text())
  })

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
  { adapter, resource }: Setup,
  { maxCostUsd }: LlmRequest,
  ended: Ended,
  transcript: Transcript,
  stderr: string,
): Effect.Effect<void, LlmError> => {
  const { final, overBudget, tooLarge, usage } = transcript.found()
  if (overBudget) return new BudgetExceeded({ spentUsd: usage?.costUsd ?? 0, limitUsd: maxCostUsd ?? 0 })
  if (tooLarge || ended._tag === "Stopped") return new LlmOutputTooLarge({ limitBytes: resource.maxOutputBytes })
  if (ended._tag === "Refused") {
    // What the containment complains of, not the command: that was not started.
    return Effect.annotateLogs(Effect.logWarning("a process could not be started"), { code: ended.code, stderr }).pipe(
      Effect.zipRight(new LlmSpawn({ command: adapter.command, code: ended.code })),
    )
  }
  const { exitCode, signal } = ended
  return Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const error = adapter.classify({ final, usage, maxCostUsd, exitCode, signal, stderr }, now)
    return error === null ? Effect.void : Effect.fail(error)
  })
}

/** Runs the command lines of the resources. Fails to build where their settings contradict each other. */
export const layer: Layer.Layer<Llm, LlmConfigError, OffloadConfig> = Layer.scoped(
  Llm,
  Effect.gen(function* () {
    const { containment: demanded, data, killGrace, lease, redisUrl, resources, role } = yield* OffloadConfig
    const identity = identify(data)
    const containment = yield* probe(demanded, identity)
    if (containment === null) {
      return yield* new LlmConfigError({
        reason: "OFFLOAD_CONTAINMENT is `namespace`, but this machine allows no PID namespace.",
      })
    }
    // Nobody else begins the attempts of a process that has its store for itself.
    const isWatched = Redacted.value(redisUrl) !== "" && role !== "api"
    const watchdog = isWatched ? yield* watch(identity.owner, lease / 2) : none
    const setups = new Map(
      yield* Effect.forEach(resources, (resource) =>
        Effect.map(select(resource), (adapter): readonly [string, Setup] => [
          resource.name,
          { resource, adapter, containment, identity, graceMillis: killGrace, watchdog },
        ]),
      ),
    )
    yield* Effect.logInfo(`processes are held together by a ${containment.mode}`)
    const isTraced = yield* FiberRef.get(FiberRef.currentTracerEnabled)

    return {
      adapter: (resource: string) => setups.get(resource)?.adapter.name ?? "none",
      command: (resource: string) => setups.get(resource)?.adapter.command ?? "none",
      run: (request: LlmRequest) => {
        const setup = setups.get(request.resource)
        if (setup === undefined) return Effect.dieMessage(`The resource '${request.resource}' is not configured.`)
        const run = Effect.annotateLogs(Effect.scoped(unlessKilled(setup, call(setup, request))), { module: "Llm" })
        const attributes = { resource: request.resource, attempt: request.attemptId, adapter: setup.adapter.name }
        // A span has its price where nobody traces, too.
        return isTraced ? Effect.withSpan(run, "Llm.run", { attributes }) : run
      },
      killOrphans: killOrphans(identity),
    }
  }).pipe(Effect.annotateLogs({ module: "Llm" })),
)
