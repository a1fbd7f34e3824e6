/** Users of the machine. */
import { execFileSync } from "node:child_process"
import { Effect } from "effect"
import type { User } from "./Scratch.js"

const ask = (command: string, ...args: ReadonlyArray<string>): string =>
  execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim()

/** Looks a user up as the system does (`getent(1)`, `id(1)`); fails with what is wrong. */
export const findUser = (name: string): Effect.Effect<User, string> =>
  Effect.try({
    try: () => [ask("getent", "passwd", name), ask("id", "-G", "--", name)] as const,
    catch: () => `the machine has no user '${name}'`,
  }).pipe(
    Effect.flatMap(([line, ids]) => {
      const [, , uid = "", gid = "", , home = "/"] = line.split(":")
      const groups = ids.split(/\s+/)
      return [uid, gid, ...groups].every((id) => /^\d+$/.test(id))
        ? Effect.succeed({ name, uid: Number(uid), gid: Number(gid), groups: groups.map(Number), home })
        : Effect.fail(`the machine's entry of the user '${name}' cannot be read`)
    }),
  )
