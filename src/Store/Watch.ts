/** Those who wait for events of jobs, woken in the process. */
import type { JobId } from "../Job.js"

export interface Watch {
  /** Calls back, once, when the job has an event after number `after` or is no more, unless cancelled before. */
  readonly add: (id: JobId, after: number, callback: () => void) => () => void
  /** The job has this many events now; `null`: it is no more. */
  readonly notify: (id: JobId, events: number | null) => void
  /** Something may have happened to any job. */
  readonly notifyAll: () => void
  /** How many jobs are waited for. */
  readonly size: () => number
}

interface Watcher {
  readonly after: number
  readonly callback: () => void
}

export const make = (): Watch => {
  const watched = new Map<JobId, Set<Watcher>>()

  const wake = (id: JobId, isWoken: (watcher: Watcher) => boolean): void => {
    const watchers = watched.get(id)
    if (watchers === undefined) return
    for (const watcher of watchers) {
      if (!isWoken(watcher)) continue
      watchers.delete(watcher)
      watcher.callback()
    }
    if (watchers.size === 0) watched.delete(id)
  }

  return {
    size: () => watched.size,
    add: (id, after, callback) => {
      const watchers = watched.get(id) ?? new Set()
      const watcher: Watcher = { after, callback }
      watched.set(id, watchers.add(watcher))
      return () => {
        watchers.delete(watcher)
        if (watchers.size === 0 && watched.get(id) === watchers) watched.delete(id)
      }
    },
    notify: (id, events) => wake(id, ({ after }) => events === null || events > after),
    notifyAll: () => {
      for (const id of [...watched.keys()]) wake(id, () => true)
    },
  }
}
