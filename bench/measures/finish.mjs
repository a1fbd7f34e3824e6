/** Finishing jobs: how fast one follows the other, and what each costs. */
import { fork } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { contenders } from "../contenders.mjs"
import { Children } from "../machine/child.mjs"
import { submit } from "../machine/load.mjs"
import { cpuMicros } from "../machine/process.mjs"
import { sleep, until } from "../machine/wait.mjs"
import { Server } from "../server.mjs"
import { median, percentile } from "../stats.mjs"

const permits = 2

/** Of children from number `from` on: from the end of a child to the start of the one that takes its place. */
const gaps = ({ ends, starts }, from) =>
  starts
    .slice(Math.max(from, permits))
    .map((start, at) => start - ends[Math.max(from, permits) + at - permits])
    .sort((a, b) => a - b)

/** What the times of children tell of those from number `from` on. */
const pace = (times, from) => {
  const { ends, starts } = times
  const sorted = gaps(times, from)
  return {
    perSecond: (ends.length - from) / ((ends.at(-1) - starts[from]) / 1000),
    gap: median(sorted),
    gap99: percentile(sorted, 99),
  }
}

const bare = async (program, millis, amount) => {
  const folder = mkdtempSync(join(tmpdir(), "offload-bench-"))
  const children = new Children(program, folder, millis)
  const child = fork(contenders.spawn.argv[1], [String(amount)], { env: { CHILD: JSON.stringify(children.argv) } })
  await new Promise((resolve) => child.once("message", resolve))
  const { children: reaped, own } = cpuMicros(child.pid)
  child.disconnect()
  const found = pace(children.times(), permits)
  rmSync(folder, { recursive: true, force: true })
  return { ...found, cpu: own / amount, tree: (own + reaped) / amount }
}

/** All of them wait before the first one ends, so that accepting them is no part of it. */
const served = async (contender, program, millis, amount) => {
  const server = await Server.start(contender, { program, millis, hold: true })
  try {
    await submit(server.url, { connections: 16, amount })
    await until(() => server.children.times().starts.length >= permits)
    // What accepting has left to do is done, and the first ones have been waited for.
    await sleep(500)
    const before = server.cpu()
    server.children.release()
    await until(() => server.children.times().ends.length >= amount, undefined, { seconds: 300, every: 20 })
    await sleep(300)
    const after = server.cpu()
    const own = after.own - before.own
    return {
      ...pace(server.children.times(), permits),
      cpu: own / amount,
      tree: (own + after.children - before.children) / amount,
    }
  } finally {
    await server.stop()
  }
}

const kinds = [0, 20]

export const finish = {
  everybody: true,
  title: "Finishing jobs, two at a time, with children of 0 and of 20 ms",
  columns: kinds.flatMap((millis) => [
    { key: `perSecond${millis}`, title: `jobs/s, ${millis} ms` },
    { key: `gap${millis}`, title: `gap ms, ${millis} ms` },
    { key: `gap99_${millis}`, title: `p99 of the gap, ${millis} ms` },
    { key: `cpu${millis}`, title: `CPU µs a job, ${millis} ms` },
    { key: `tree${millis}`, title: "the same with its processes" },
  ]),
  takesPart: ({ argv, jobs }) => jobs || argv[1].endsWith("spawn.mjs"),
  run: async (contender, { program, short }) => {
    const found = {}
    for (const millis of short ? [0] : kinds) {
      // A poll of half a second, as pg-boss has, makes many jobs take too long.
      const amount = short ? 8 : contender.keeps === "postgres" ? 40 : 300
      const { cpu, gap, gap99, perSecond, tree } = contender.jobs
        ? await served(contender, program, millis, amount)
        : await bare(program, millis, amount)
      Object.assign(found, {
        [`perSecond${millis}`]: perSecond,
        [`gap${millis}`]: gap,
        [`gap99_${millis}`]: gap99,
        [`cpu${millis}`]: cpu,
        [`tree${millis}`]: tree,
      })
    }
    return found
  },
}
