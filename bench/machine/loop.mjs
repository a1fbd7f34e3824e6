/**
 * Loaded into each contender that is a program of Node, where its event loop is measured: on SIGUSR2 writes the loop's
 * delay since the last time to the file `BENCH_LOOP`, in milliseconds.
 */
import { renameSync, writeFileSync } from "node:fs"
import { monitorEventLoopDelay } from "node:perf_hooks"

const resolution = 2
const delay = monitorEventLoopDelay({ resolution })
delay.enable()

process.on("SIGUSR2", () => {
  // The histogram has the time between two beats, of which the resolution is no delay.
  const millis = (nanos) => Math.max(0, nanos / 1e6 - resolution)
  const found = { p99: millis(delay.percentile(99)), max: millis(delay.max) }
  delay.reset()
  writeFileSync(`${process.env.BENCH_LOOP}.new`, JSON.stringify(found))
  renameSync(`${process.env.BENCH_LOOP}.new`, process.env.BENCH_LOOP)
})
