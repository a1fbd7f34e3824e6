/** A limit: children started as fast as they end, two at a time, and nothing else. Its argument: how many. */
import { permits, work } from "./work.mjs"

let left = Number(process.argv[2])

const run = async () => {
  while (left-- > 0) await work("Why is the sky blue?")
}

await Promise.all(Array.from({ length: permits }, run))
// Its processor time is read before it is gone.
process.send("done")
process.on("disconnect", () => process.exit())
