/** A store whose every call goes through a function. */
import { Effect } from "effect"
import type { Store, StoreError } from "../../src/Store.js"

type Service = Store["Type"]

type Wrap = <A, E>(operation: keyof Service, call: Effect.Effect<A, E>) => Effect.Effect<A, E | StoreError>

/** `current` is asked at each call. */
export const through = (current: () => Service, wrap: Wrap): Service => {
  const call = <A, E>(operation: keyof Service, make: (store: Service) => Effect.Effect<A, E>) =>
    wrap(
      operation,
      Effect.suspend(() => make(current())),
    )
  return {
    description: current().description,
    create: (job, options) => call("create", (store) => store.create(job, options)),
    get: (id) => call("get", (store) => store.get(id)),
    getWithInput: (id) => call("getWithInput", (store) => store.getWithInput(id)),
    list: (query) => call("list", (store) => store.list(query)),
    counts: call("counts", (store) => store.counts),
    queued: (resource, limit, turns) => call("queued", (store) => store.queued(resource, limit, turns)),
    ahead: (id, turns) => call("ahead", (store) => store.ahead(id, turns)),
    running: call("running", (store) => store.running),
    orphans: (isCarried) => call("orphans", (store) => store.orphans(isCarried)),
    drain: call("drain", (store) => store.drain),
    claim: (id, adapter, how) => call("claim", (store) => store.claim(id, adapter, how)),
    append: (id, attempt, piece) => call("append", (store) => store.append(id, attempt, piece)),
    settle: (id, attempt, outcome, last) => call("settle", (store) => store.settle(id, attempt, outcome, last)),
    cancel: (id) => call("cancel", (store) => store.cancel(id)),
    redeliver: (id) => call("redeliver", (store) => store.redeliver(id)),
    remove: (id) => call("remove", (store) => store.remove(id)),
    events: (id, after, limit) => call("events", (store) => store.events(id, after, limit)),
    awaitEvent: (id, after) => call("awaitEvent", (store) => store.awaitEvent(id, after)),
    output: (id) => call("output", (store) => store.output(id)),
    advance: (options) => call("advance", (store) => store.advance(options)),
    release: (options) => call("release", (store) => store.release(options)),
    shorten: (options) => call("shorten", (store) => store.shorten(options)),
    ping: call("ping", (store) => store.ping),
  }
}
