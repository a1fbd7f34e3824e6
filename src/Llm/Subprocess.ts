/**
 * `Llm` as real processes: each attempt is one command with its tree, held together so that it ends as a whole.
 */
import { Clock, Effect, Layer, type Scope } from "effect"
import { type LlmError, LlmNotFound, LlmOutputTooLarge, LlmSpawn, LlmTimeout } from "../Job/JobError.js"
import { Llm, type LlmRequest, type LlmResult } from "../Llm.js"
import { OffloadConfig, type Values } from "../OffloadConfig.js"
import type { Adapter } from "./Adapter.js"
import { LlmConfigError, select } from "./Adapters.js"
import { type Containment, type Mode, probe } from "./Containment.js"
import { type Identity, identify, make as makeCookie, variable } from "./Cookie.js"
import { allow } from "./Environment.js"
import { find } from "./Executable.js"
import { make as makeFolder } from "./Folder.js"
import { killOrphans } from "./Orphans.js"
import { codeOf, type Ended, make as makeProcessTree, type ProcessTree } from "./ProcessTree.js"
import { killWhere } from "./Procfs.js"
import { makeTail, make as makeTranscript, type Transcript } from "./Transcript.js"

/** How much of standard error is kept: its end. */
const stderrBytes = 4096

/** What all attempts of this service share. */
interface Setup {
  readonly adapter: Adapter
  readonly containment: Containment
  readonly identity: Identity
  readonly settings: Values
}

/** Beside the answer, a command line may tell of tools, thoughts and retries: a multiple of the answer's limit. */
const rawBytes = (maxOutputBytes: number) => ({
  line: 4 * maxOutputBytes + 2 ** 22,
  all: 32 * maxOutputBytes + 2 ** 25,
})

/** The tree of an attempt. Whatever happens to the attempt, it goes on only when the tree is gone. */
const acquireTree = (
  { containment, settings }: Setup,
  cookie: string,
): Effect.Effect<ProcessTree, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      makeProcessTree({
        containment,
        graceMillis: settings.killGrace,
        killStrays: async () => (await killWhere(variable, (value) => value === cookie)).left,
      }),
    ),
    (tree) =>
      Effect.flatMap(
        Effect.promise(() => tree.end()),
        (gone) => (gone ? Effect.void : Effect.logError("the system did not remove a process that was killed")),
      ),
  )

/** The arguments of a request, if a command can take them. */
const argsOf = ({ adapter }: Setup, { input }: LlmRequest): Effect.Effect<ReadonlyArray<string>, LlmSpawn> => {
  const args = adapter.args(input)
  // No command line is known to have a model like that: it would be read as an option.
  const isOption = input.model?.startsWith("-") === true
  return isOption || args.some((arg) => arg.includes("\0"))
    ? new LlmSpawn({ command: adapter.command, code: "EINVAL" })
    : Effect.succeed(args)
}

const call = (setup: Setup, request: LlmRequest): Effect.Effect<LlmResult, LlmError, Scope.Scope> =>
  Effect.gen(function* () {
    const { adapter, identity, settings } = setup
    const { command } = adapter

    const file = yield* Effect.sync(() => find(command))
    if (file === null) return yield* new LlmNotFound({ command })
    const args = yield* argsOf(setup, request)
    const cwd = yield* Effect.mapError(
      makeFolder(identity),
      ({ error }) => new LlmSpawn({ command, code: codeOf(error) }),
    )

    const limits = rawBytes(settings.maxOutputBytes)
    const transcript = makeTranscript({
      decoder: adapter.decoder({ maxLine: limits.line }),
      maxBytes: settings.maxOutputBytes,
      maxRawBytes: limits.all,
      onText: request.onText,
    })
    const stderr = makeTail(stderrBytes)
    // Released after the tree: what a command says in its grace is still part of the answer.
    yield* Effect.addFinalizer(() => Effect.sync(transcript.end))

    const cookie = makeCookie(identity, request.attemptId)
    const tree = yield* acquireTree(setup, cookie)
    const ended = yield* Effect.tryPromise((cancelSignal) =>
      tree.run({
        argv: [file, ...args],
        cwd,
        env: { ...allow(process.env, [...adapter.env, ...settings.llmEnv]), [variable]: cookie },
        stdin: adapter.stdin(request.input),
        onOutput: transcript.push,
        onError: stderr.push,
        cancelSignal,
      }),
    ).pipe(
      // What the system refuses is a value of `ended`; only a bug of `onText` can be thrown.
      Effect.catchTag("UnknownException", ({ error }) => Effect.die(error)),
      Effect.timeoutFail({
        duration: request.timeoutMillis,
        onTimeout: () => new LlmTimeout({ millis: request.timeoutMillis }),
      }),
    )
    transcript.end()
    return yield* conclude(setup, ended, transcript, stderr.text())
  })

const conclude = (
  { adapter, settings }: Setup,
  ended: Ended,
  transcript: Transcript,
  stderr: string,
): Effect.Effect<LlmResult, LlmError> => {
  const { final, tooLarge, usage } = transcript.found()
  if (tooLarge || ended._tag === "Stopped") return new LlmOutputTooLarge({ limitBytes: settings.maxOutputBytes })
  if (ended._tag === "Refused") {
    // What the containment complains of, not the command: that was not started.
    return Effect.annotateLogs(Effect.logWarning("a process could not be started"), { code: ended.code, stderr }).pipe(
      Effect.zipRight(new LlmSpawn({ command: adapter.command, code: ended.code })),
    )
  }
  const { exitCode, signal } = ended
  return Effect.flatMap(Clock.currentTimeMillis, (now) =>
    adapter.classify({ final, usage, exitCode, signal, stderr }, now),
  )
}

const make = (demanded: Mode | "auto"): Effect.Effect<Llm["Type"], LlmConfigError, OffloadConfig> =>
  Effect.gen(function* () {
    const settings = yield* OffloadConfig
    const adapter = yield* select(settings)
    const containment = yield* probe(demanded)
    if (containment === null) return yield* new LlmConfigError({ reason: "This machine allows no PID namespace." })
    const setup: Setup = { adapter, containment, identity: identify(settings.data), settings }

    yield* Effect.logInfo("what runs the jobs").pipe(
      Effect.annotateLogs({ adapter: adapter.name, command: adapter.command, containment: containment.mode }),
    )
    return {
      adapter: () => adapter.name,
      command: () => adapter.command,
      run: (request: LlmRequest) =>
        Effect.scoped(call(setup, request)).pipe(
          Effect.annotateLogs({ module: "Llm" }),
          Effect.withSpan("Llm.run", {
            attributes: { resource: request.resource, attempt: request.attemptId, adapter: adapter.name },
          }),
        ),
      killOrphans: killOrphans(setup.identity),
    }
  }).pipe(Effect.annotateLogs({ module: "Llm" }))

/** With a way to hold processes together that is demanded instead of found out: for tests. */
export const layerWith = (options: {
  readonly containment: Mode | "auto"
}): Layer.Layer<Llm, LlmConfigError, OffloadConfig> => Layer.effect(Llm, make(options.containment))

/** Runs the command line that the settings name. Fails to build where they contradict each other. */
export const layer: Layer.Layer<Llm, LlmConfigError, OffloadConfig> = layerWith({ containment: "auto" })
