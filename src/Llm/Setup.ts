/** What a resource's attempts share: made at the start, where it is also said what holds on this machine. */
import { accessSync, constants } from "node:fs"
import { sep } from "node:path"
import { Effect, Either, type Scope } from "effect"
import type { Resource } from "../OffloadConfig.js"
import type { Adapter } from "./Adapter.js"
import { LlmConfigError, select } from "./Adapters.js"
import { isRefusal } from "./Containment.js"
import { find } from "./Executable.js"
import { attempt } from "./Probe.js"
import { type Profile, type Service, start } from "./Sandbox.js"
import type { Scratch } from "./Scratch.js"
import { make as makeSpares, type Spares } from "./Spares.js"
import { codeOf } from "./SystemCode.js"
import { findUser } from "./Users.js"
import type { Watchdog } from "./Watchdog.js"

/** What all attempts of a resource share. */
export interface Setup {
  readonly resource: Resource
  readonly adapter: Adapter
  readonly service: Service
  readonly profile: Profile
  readonly spares: Spares
  readonly graceMillis: number
  /** Why the machine did not start its newest attempt; `null` where it did. */
  readonly refusal: { reason: string | null }
  readonly watchdog: Watchdog
}

/** Whether a path is a folder, or in it. */
const isWithin = (folder: string, path: string): boolean => path === folder || path.startsWith(folder + sep)

/** Commands do not see `OFFLOAD_DATA`, so that nothing of theirs can be in it. */
const refuseHidden = ({ adapter, resource, service }: Pick<Setup, "adapter" | "resource" | "service">) => {
  const named = [resource.folder, find(adapter.command)].filter((path) => path !== null)
  const hidden = service.mode === "group" ? [] : service.hidden.folders
  const path = named.find((path) => hidden.some((folder) => isWithin(folder, path)))
  return path === undefined
    ? Effect.void
    : new LlmConfigError({
        reason: `The resource '${resource.name}' names '${path}', in a folder that its command does not see: keep it outside of OFFLOAD_DATA.`,
      })
}

/** What the trial of the means of containment has tried already. */
const isUsual = ({ limits, user }: Profile): boolean =>
  user === null && Object.entries(limits).every(([name, value]) => name === "processes" || value === undefined)

/** What a resource's commands are held to, as far as this machine can. */
const profileOf = ({ limits, name, user }: Resource): Effect.Effect<Profile, LlmConfigError> => {
  if (user === null) return Effect.succeed({ limits, user })
  const refuse = (reason: string) =>
    new LlmConfigError({ reason: `The resource '${name}' has a \`user\`, but ${reason}.` })
  if (process.getuid?.() !== 0) return refuse("only a service that runs as root can run commands as another user")
  return Effect.mapBoth(findUser(user), { onFailure: refuse, onSuccess: (found) => ({ limits, user: found }) })
}

/**
 * Prepares a resource for its attempts, for as long as the scope lasts. Fails where its settings cannot hold here.
 * `runs`: whether this process runs attempts; else none is tried.
 */
export const makeSetup = ({
  resource,
  runs,
  service,
  ...shared
}: Pick<Setup, "resource" | "service" | "watchdog" | "graceMillis"> & { readonly runs: boolean }): Effect.Effect<
  Setup,
  LlmConfigError,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const adapter = yield* select(resource)
    yield* refuseHidden({ adapter, resource, service })
    const profile = yield* profileOf(resource)
    const tried = !runs || isUsual(profile) ? Either.void : yield* attempt(service, profile)
    if (Either.isLeft(tried)) {
      return yield* new LlmConfigError({
        reason: `No command can run within the \`limits\` and as the \`user\` of the resource '${resource.name}': ${tried.left}.`,
      })
    }
    const spares = yield* Effect.acquireRelease(
      Effect.sync(() => makeSpares(() => start(service, profile))),
      ({ close }) => Effect.promise(close),
    )
    return { resource, adapter, service, profile, spares, refusal: { reason: null }, ...shared }
  })

/** The system's code for why a folder cannot be worked in; `null` where it can. */
const reasonOf = (folder: string): string | null => {
  try {
    accessSync(`${folder}/.`, constants.X_OK)
    return null
  } catch (error) {
    return codeOf(error)
  }
}

/** Whether the machine would still not start an attempt that it has refused. */
const stillRefuses = async ({ profile, refusal, resource, service }: Setup): Promise<string | null> => {
  if (refusal.reason === null) return null
  const unusable = resource.folder === null ? null : reasonOf(resource.folder)
  if (unusable !== null) return `the folder '${resource.folder}' cannot be used (${unusable})`
  const sandbox = await start(service, profile)
  if (isRefusal(sandbox)) return sandbox.detail
  sandbox.discard()
  await sandbox.removed
  refusal.reason = null
  return null
}

export const troubleNow = (scratch: Scratch, setups: ReadonlyArray<Setup>): Effect.Effect<string | null> => {
  const trouble = scratch.trouble()
  return trouble === null ? troubleOf(setups) : Effect.succeed(trouble.detail)
}

/** The reason of the first resource, if there is one for each. */
const troubleOf = (setups: ReadonlyArray<Setup>): Effect.Effect<string | null> =>
  Effect.promise(async () => {
    const reasons = await Promise.all(setups.map(stillRefuses))
    return reasons.includes(null) ? null : (reasons[0] ?? null)
  })

/** Says at the start what holds on this machine and what does not. */
export const announce = (service: Service, why: string | null, setups: ReadonlyArray<Setup>) =>
  Effect.gen(function* () {
    const means = service.mode === "namespace" ? "a PID namespace each" : "a process group each"
    const facts = Effect.annotateLogs({ scratch: service.scratch.root, cgroups: service.cgroups !== null })
    yield* Effect.logInfo(`attempts are held together by ${means}`).pipe(facts)
    if (service.mode === "group") {
      yield* Effect.logWarning(
        "attempts are not kept apart: a command can see the files, the environment and the processes of this service's user; see docs/security.md",
      ).pipe(
        Effect.annotateLogs({
          reason: why ?? "OFFLOAD_CONTAINMENT is `group`",
          ...(service.cgroups === null
            ? { survivors: "a process that leaves its session and hides what it inherited can outlive its attempt" }
            : {}),
        }),
      )
    }
    const asRoot = setups.filter(({ profile }) => process.getuid?.() === 0 && profile.user === null)
    if (asRoot.length > 0) {
      yield* Effect.logWarning(
        "commands run as root: start the service as a user of its own, or give resources a `user`; see docs/security.md",
      ).pipe(
        Effect.annotateLogs({
          resources: asRoot.map(({ resource }) => resource.name).join(", "),
          processes: service.cgroups?.isLimiting === true ? "limited" : "not limited: there is no cgroup for it",
        }),
      )
    }
  })
