/** A process that writes to a store until it is killed, and prints each change that was acknowledged. */
import { Effect, Random } from "effect"
import { makeId } from "../../src/Job.js"
import * as Lmdb from "../../src/Store/Lmdb.js"
import { Store } from "../../src/Store.js"
import { failure, piece, roomy, submission, succeeded } from "./submission.js"

const say = (...words: ReadonlyArray<string | number>) =>
  Effect.sync(() => process.stdout.write(`${words.join(" ")}\n`))

const life = Effect.gen(function* () {
  const store = yield* Store
  const n = yield* Random.nextIntBetween(0, 1000)
  const { job } = yield* store.create(
    submission({ id: makeId(Date.now()), caller: `caller-${n % 3}`, idempotency: { key: `k${n}`, fingerprint: "f" } }),
    roomy,
  )
  yield* say("saved", job.id, 1)
  if (n % 4 === 0 || (yield* store.claim(job.id, "demo")) === null) return
  yield* say("saved", job.id, 2)
  const text = "text ".repeat(n % 20) || "text"
  yield* store.append(job.id, 1, piece(text))
  yield* say("saved", job.id, 3)
  if (n % 4 === 1) return
  const outcome = n % 4 === 2 ? succeeded : ({ _tag: "Failed", failure, retryAt: n } as const)
  const { events } = yield* store.settle(job.id, 1, outcome, piece("end", text.length))
  yield* say("saved", job.id, events)
})

const program = Effect.gen(function* () {
  yield* Store
  yield* say("open", process.pid)
  if (process.env.WRITE === "1") {
    yield* Effect.forEach(Array(20), () => Effect.forever(Effect.either(life)), { concurrency: "unbounded" })
  }
  return yield* Effect.never
})

const keepAlive = setInterval(() => {}, 1000)
await Effect.runPromise(
  program.pipe(
    Effect.provide(Lmdb.layer({ path: process.env.FOLDER ?? "" })),
    Effect.catchAll((error) => say("refused", error._tag, error.message)),
  ),
)
clearInterval(keepAlive)
