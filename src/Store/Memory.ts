/** Jobs in the memory of the process: gone with it. For tests, and for programs that need no more. */
import { Effect, Layer, Order, RedBlackTree as Tree } from "effect"
import { Store } from "../Store.js"
import { type Entry, type Kv, type Range, type Table, tables } from "./Kv.js"
import * as KvStore from "./KvStore.js"

type Rows = Tree.RedBlackTree<string, string>

const empty: Rows = Tree.empty(Order.string)

/** A backend in memory: trees that are never changed in place, so that who reads one is not disturbed by a commit. */
export const makeKv = (): Kv => {
  const all = new Map<Table, Rows>(tables.map((table) => [table, empty]))
  const rows = (table: Table) => all.get(table) ?? empty

  const without = (tree: Rows, key: string) => (Tree.has(tree, key) ? Tree.removeFirst(tree, key) : tree)

  function* entries(table: Table, { end, limit = Number.POSITIVE_INFINITY, reverse = false, start }: Range) {
    const tree = rows(table)
    let count = 0
    for (const [key, value] of reverse ? Tree.lessThanReversed(tree, end) : Tree.greaterThanEqual(tree, start)) {
      if (count === limit || (reverse ? key < start : key >= end)) return
      count++
      const entry: Entry = { key, value }
      yield entry
    }
  }

  function* keys(table: Table, range: Range) {
    for (const { key } of entries(table, range)) yield key
  }

  return {
    get: (table, key) => {
      for (const [found, value] of Tree.greaterThanEqual(rows(table), key)) return found === key ? value : undefined
      return undefined
    },
    entries,
    keys,
    count: (table, range) => {
      let count = 0
      for (const _ of entries(table, range)) count++
      return count
    },
    commit: (ops, done) => {
      for (const op of ops) {
        const tree = without(rows(op.table), op.key)
        all.set(op.table, op._tag === "Put" ? Tree.insert(tree, op.key, op.value) : tree)
      }
      done(null)
    },
  }
}

export const layer: Layer.Layer<Store> = Layer.effect(
  Store,
  // A failure here would be a bug: there is nothing to read, and no disk to read it from.
  Effect.orDie(Effect.suspend(() => KvStore.make(makeKv(), "memory"))),
)
