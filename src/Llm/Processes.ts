/** Finds processes by what they inherited (`Marker.ts`), and kills them. */
import { setImmediate, setTimeout } from "node:timers/promises"
import { type Marks, variable } from "./Marker.js"
import { environment, isUnburied, lineage, pids, realtimeLimit } from "./Procfs.js"

/** How many processes are looked at before other work gets its turn: about a millisecond. */
const slice = 64

/** The longest that `killWhere` goes on. */
const killMillis = 2000

/** Calls `visit` with each process whose marks match; not with this one or its ancestors. */
const forEach = async (matches: (found: Marks) => boolean, visit: (pid: number) => void): Promise<void> => {
  const spared = lineage()
  let looked = 0
  for (const pid of pids()) {
    if (spared.has(pid)) continue
    if (++looked % slice === 0) await setImmediate()
    // Visited before anything else can run, so that the id still means the process that was looked at.
    if (matches({ cookie: environment(pid, variable), mark: realtimeLimit(pid) })) visit(pid)
  }
}

/** The longest that the machine's first process is waited for, which has to bury what lost its parent. */
const burialMillis = 3000

/** Waits until nothing is left of processes that were killed, not even their numbers. */
export const awaitBurial = async (killed: ReadonlyArray<number>): Promise<void> => {
  const until = Date.now() + burialMillis
  while (killed.some(isUnburied) && Date.now() < until) await setTimeout(10)
}

/**
 * Kills the processes whose marks match, again and again until there are none, since one may fork while it is looked
 * for. Resolves to how many it killed, and to whether some are left after 2 s.
 */
export const killWhere = async (
  matches: (found: Marks) => boolean,
): Promise<{ readonly killed: number; readonly left: boolean }> => {
  const killed = new Set<number>()
  const until = Date.now() + killMillis
  for (;;) {
    let seen = 0
    await forEach(matches, (pid) => {
      seen++
      killed.add(pid)
      try {
        process.kill(pid, "SIGKILL")
      } catch {
        // It ended by itself, or belongs to another user now: `left` tells the latter.
      }
    })
    if (seen === 0) {
      await awaitBurial([...killed])
      return { killed: killed.size, left: false }
    }
    if (Date.now() > until) return { killed: killed.size, left: true }
    await setTimeout(5)
  }
}
