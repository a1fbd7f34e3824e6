/** Users of the machine. */
import { execFileSync } from "node:child_process"
import { Effect } from "effect"
import type { User } from "./Scratch.js"

/** Looks a user up as the system does (`getent(1)`); fails with what is wrong. */
export const findUser = (name: string): Effect.Effect<User, string> =>
  Effect.try({
    try: () => execFileSync("getent", ["passwd", name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
    catch: () => `the machine has no user '${name}'`,
  }).pipe(
    Effect.flatMap((line) => {
      const [, , uid = "", gid = "", , home = "/"] = line.trim().split(":")
      return /^\d+$/.test(uid) && /^\d+$/.test(gid)
        ? Effect.succeed({ name, uid: Number(uid), gid: Number(gid), home })
        : Effect.fail(`the machine's entry of the user '${name}' cannot be read`)
    }),
  )
