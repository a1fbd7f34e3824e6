/**
 * Whether a disk has room for a write. lmdb 3.5.6 corrupts the memory of its process when a write fails for want of
 * room: the process aborts, soon or later. So no write is begun that may not fit.
 *
 * What adds work stops at a high mark. What ends work or frees room goes on below it: to the last of the disk, then
 * to a file that is kept for that, the ballast, then to the pages inside lmdb's file that nothing uses any more.
 */
import { existsSync, rmSync, statfsSync } from "node:fs"
import { open } from "node:fs/promises"
import { join } from "node:path"
import type { Op } from "../Kv.js"

const MiB = 2 ** 20

/** The share of a disk below which no work is taken on, and its bounds in bytes. */
const mark = { share: 1 / 20, least: 2 * MiB, most: 64 * MiB } as const
const ballastOf = { share: 1 / 16, most: 8 * MiB } as const

/** Left free by every write, for what others write at the same moment. */
const leastBytes = MiB / 8

/** What a write of lmdb copies: pages above those of the records, and of the list of free pages; two for a record. */
const pageBytes = 4096
const commitBytes = 8 * pageBytes
const recordBytes = 2 * pageBytes
/** Events of a job are neighbours: two of them, at least, are on one page. */
const eventBytes = pageBytes / 2
/** A longer value needs pages in a row, which the free ones need not be. */
const onePage = 4000

/** One look at a disk, for the writes of one transaction. */
export interface Look {
  /** Whether these operations fit, after those that did before; `isGrowth`: they add work. */
  readonly take: (ops: ReadonlyArray<Op>, isGrowth: boolean) => boolean
}

export interface Room {
  readonly look: () => Look
  /** Whether work is taken on. */
  readonly isAboveMark: () => boolean
  readonly hasBallast: () => boolean
  /** Puts the ballast back, where there is room for it. */
  readonly restore: () => Promise<void>
}

const valueBytes = (op: Op): number => (op._tag === "Put" ? Buffer.byteLength(op.value) : 0)

/** How many bytes operations add, about. */
const sizeOf = (ops: ReadonlyArray<Op>): number => ops.reduce((sum, op) => sum + op.key.length + valueBytes(op), 0)

/** How many bytes they may write, at most. */
const costOf = (ops: ReadonlyArray<Op>): number =>
  ops.reduce((sum, op) => sum + (op.table === "events" ? eventBytes : recordBytes) + valueBytes(op), commitBytes)

const isScattered = (ops: ReadonlyArray<Op>): boolean => ops.every((op) => valueBytes(op) <= onePage)

interface Disk {
  readonly free: number
  readonly whole: number
}

const diskOf = (path: string): Disk => {
  try {
    const { bavail, blocks, bsize } = statfsSync(path)
    return { free: bavail * bsize, whole: blocks * bsize }
  } catch {
    // What is wrong with the folder is told by the write.
    return { free: Number.POSITIVE_INFINITY, whole: Number.POSITIVE_INFINITY }
  }
}

const markOf = ({ whole }: Disk): number => Math.min(mark.most, Math.max(mark.least, whole * mark.share))

const ballastBytes = ({ whole }: Disk): number => Math.floor(Math.min(ballastOf.most, whole * ballastOf.share))

/** How many pages inside lmdb's file nothing uses, after which transaction. */
export interface FreePages {
  readonly pages: number
  readonly transaction: number
}

export const make = (path: string, freePages: () => FreePages): Room => {
  const ballast = join(path, "reserve")
  let hasBallast = existsSync(ballast)
  let newest: FreePages | null = null
  let before: FreePages | null = null

  /** What a transaction frees can be used by the second one after it, unless a reader holds on to it. */
  const reusable = (): number => {
    const now = freePages()
    if (newest !== null && newest.transaction !== now.transaction) before = newest
    newest = now
    return before === null ? (now.pages / 4) * pageBytes : (Math.min(before.pages, now.pages) / 2) * pageBytes
  }

  const release = (): void => {
    if (!hasBallast) return
    rmSync(ballast, { force: true })
    hasBallast = false
  }

  const look = (): Look => {
    let disk = diskOf(path)
    let spent = 0
    const inside = disk.free < markOf(disk) + ballastBytes(disk) ? reusable() : 0
    const left = () => disk.free - spent

    const takesGrowth = (ops: ReadonlyArray<Op>): number | null => {
      const size = 2 * sizeOf(ops)
      const above = size + markOf(disk)
      if (left() < size + leastBytes) return null
      return left() >= above || left() + inside >= above ? size : null
    }

    const takesAny = (ops: ReadonlyArray<Op>): number | null => {
      const cost = costOf(ops)
      if (left() >= cost + leastBytes) return cost
      if (hasBallast) {
        release()
        disk = diskOf(path)
        if (left() >= cost + leastBytes) return cost
      }
      // Nobody else takes these.
      return isScattered(ops) && inside - Math.max(0, spent - disk.free) >= cost ? cost : null
    }

    return {
      take: (ops, isGrowth) => {
        const cost = isGrowth ? takesGrowth(ops) : takesAny(ops)
        spent += cost ?? 0
        return cost !== null
      },
    }
  }

  return {
    look,
    isAboveMark: () => look().take([], true),
    hasBallast: () => hasBallast,
    restore: async () => {
      const disk = diskOf(path)
      const bytes = ballastBytes(disk)
      // Twice, so that it does not come and go.
      if (hasBallast || disk.free < markOf(disk) + 2 * bytes) return
      const file = await open(ballast, "w", 0o600)
      try {
        await file.writeFile(Buffer.alloc(bytes, "offload "))
        hasBallast = true
      } finally {
        await file.close()
      }
    },
  }
}
