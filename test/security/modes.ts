/** The ways in which a service keeps its attempts apart, each as a service that a test starts. */
import { execFileSync } from "node:child_process"
import { chownSync } from "node:fs"
import { tmpdir } from "node:os"
import { fileURLToPath } from "node:url"
import { describe, it } from "vitest"
import { open } from "../../src/Llm/Cgroup.js"
import { identify } from "../../src/Llm/Marker.js"
import { Service } from "../e2e/Service.js"

export interface Mode {
  readonly name: string
  readonly containment: "namespace" | "group"
  /** Whether the service itself runs as root. */
  readonly isRoot: boolean
  /** The `user` of its resources; `null`: none. */
  readonly user: string | null
  /** Whether a control group holds its attempts together. */
  readonly hasCgroup: boolean
}

const names = [
  "namespace, as a user",
  "namespace, as root",
  "namespace, as root with a `user`",
  "group with a cgroup, as root",
  "group with a cgroup, as root with a `user`",
  "group without a cgroup, as a user",
] as const
export type ModeName = (typeof names)[number]

const nobody = "nobody"

const mode = (
  name: ModeName,
  containment: Mode["containment"],
  isRoot: boolean,
  user: string | null,
  hasCgroup: boolean,
): Mode => ({ name, containment, isRoot, user, hasCgroup })

export const modes: Readonly<Record<ModeName, Mode>> = {
  [names[0]]: mode(names[0], "namespace", false, null, false),
  [names[1]]: mode(names[1], "namespace", true, null, false),
  [names[2]]: mode(names[2], "namespace", true, nobody, false),
  [names[3]]: mode(names[3], "group", true, null, true),
  [names[4]]: mode(names[4], "group", true, nobody, true),
  [names[5]]: mode(names[5], "group", false, null, false),
}

export const modeNames: ReadonlyArray<ModeName> = names

const areTestsRoot = process.getuid?.() === 0

/** A user that nobody else is, so that what reaches everything of its user reaches nothing of other tests. */
const ownUser = 60_000 + (process.pid % 5000)

const asUser = ["setpriv", `--reuid=${ownUser}`, `--regid=${ownUser}`, "--clear-groups", "--"]

const works = (command: string, ...args: ReadonlyArray<string>): boolean => {
  try {
    execFileSync(command, args, { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

const program = fileURLToPath(new URL("../../dist/bundle/main.js", import.meta.url))

/** The checkout may be in a folder that only its owner may enter. */
const isReadableByUser = (): boolean => works("setpriv", ...asUser.slice(1), "test", "-r", program)

const canMakeCgroups = (): boolean => {
  const cgroups = open(identify(tmpdir()))
  cgroups?.close()
  return cgroups !== null
}

/** Why the tests of a mode cannot run here; `null`: they can. */
export const missing = ({ containment, hasCgroup, isRoot, user }: Mode): string | null => {
  if (process.platform !== "linux") return "there is no containment but on Linux"
  if (isRoot && !areTestsRoot) return "the tests do not run as root"
  if (user !== null && !works("getent", "passwd", user)) return `the machine has no user '${user}'`
  if (areTestsRoot && !isRoot && !isReadableByUser()) return `other users cannot read ${program}`
  if (hasCgroup && !canMakeCgroups()) return "this process may make no control group"
  const starter = areTestsRoot && !isRoot ? asUser : []
  const privileges = isRoot ? [] : ["--user", "--map-current-user"]
  if (containment === "namespace") {
    const [command = "unshare", ...args] = [...starter, "unshare", ...privileges, "--pid", "--fork", "--mount-proc"]
    if (!works(command, ...args, "true")) return "the kernel gives no PID namespace"
  }
  return null
}

export const keys = { mallory: "mallory-key-0123456789", victor: "victor-key-0123456789" }

export const as = (caller: keyof typeof keys): Record<string, string> => ({ authorization: `Bearer ${keys[caller]}` })

export const webhookSecret = `whsec_${Buffer.from("a secret of the service itself").toString("base64")}`
export const resourceSecret = "a-secret-of-another-resource"

export interface Options {
  readonly resources: Readonly<Record<string, Record<string, unknown>>>
  readonly env?: Readonly<Record<string, string>>
  /** What the service is started by. */
  readonly wrapper?: ReadonlyArray<string>
}

/** A service in a mode, not started yet, with a key each for an attacker and for another caller. */
export const serviceIn = (
  { containment, isRoot, user }: Mode,
  { env = {}, resources, wrapper = [] }: Options,
): Service => {
  const isOther = areTestsRoot && !isRoot
  const all = Object.entries(resources).map(([name, resource]) => [
    name,
    { adapter: "command", command: ["/bin/sh"], permits: 4, ...(user === null ? {} : { user }), ...resource },
  ])
  const service = new Service(
    {
      OFFLOAD_RESOURCES: JSON.stringify(Object.fromEntries(all)),
      OFFLOAD_CONTAINMENT: containment,
      OFFLOAD_API_KEYS: JSON.stringify({ mallory: { keys: [keys.mallory] }, victor: { keys: [keys.victor] } }),
      OFFLOAD_WEBHOOK_SECRET: webhookSecret,
      OTHER_SECRET: resourceSecret,
      ...env,
    },
    [...(isOther ? asUser : []), ...wrapper],
  )
  if (isOther) chownSync(service.data, ownUser, ownUser)
  return service
}

/** Tests in each mode; where this machine does not allow it, a skip that carries its reason. */
export const describeModes = (title: string, tests: (mode: Mode, name: ModeName) => void): void => {
  describe.each(modeNames)(title, (name) => {
    const mode = modes[name]
    const reason = missing(mode)
    if (reason === null) tests(mode, name)
    else it.skip(`cannot be tried here: ${reason}`)
  })
}
