/**
 * Whether a disk has room for a write. lmdb 3.5.6 corrupts the memory of its process when a write fails for want of
 * room: the process aborts, soon or later. So no write is begun that may not fit.
 */
import { statfsSync } from "node:fs"
import type { Op } from "../Kv.js"

/** Left for the pages that a write copies, and for what others write meanwhile. */
const reserveBytes = 2 * 2 ** 20

/** How many bytes of operations may be written to the disk of a folder. */
export const roomOf = (path: string): number => {
  try {
    const { bavail, bsize } = statfsSync(path)
    return (bavail * bsize - reserveBytes) / 2
  } catch {
    // What is wrong with the folder is told by the write.
    return Number.POSITIVE_INFINITY
  }
}

/** How many bytes operations take, about. */
export const sizeOf = (ops: ReadonlyArray<Op>): number =>
  ops.reduce((sum, op) => sum + op.key.length + (op._tag === "Put" ? Buffer.byteLength(op.value) : 0), 0)
