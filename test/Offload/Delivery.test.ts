/** Deliveries without HTTP: what is posted, when it is tried again, and what it takes from the jobs. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { WebhookUnreachable } from "../../src/Job/JobError.js"
import { type JobId, makeId } from "../../src/Job.js"
import { Spool } from "../../src/Offload/Spool.js"
import { Offload } from "../../src/Offload.js"
import * as Memory from "../../src/Store/Memory.js"
import { type Message, Webhook } from "../../src/Webhook.js"
import { holds, service, submit, until, untilStatus } from "./harness.js"

const url = "https://hooks.test/path"

/** A webhook that does what it is told, and keeps what it is given. */
const webhook = (post: (message: Message) => Effect.Effect<void, WebhookUnreachable>, posted: Array<Message> = []) =>
  Layer.succeed(Webhook, {
    check: () => Effect.void,
    post: (message) =>
      Effect.zipRight(
        Effect.sync(() => posted.push(message)),
        post(message),
      ),
  })

const unreachable = new WebhookUnreachable({ host: "hooks.test", code: "ECONNREFUSED" })

const withWebhooks = (layer: Layer.Layer<Webhook>, settings: Parameters<typeof service>[1] = {}) =>
  service(
    () => Effect.void,
    { webhookSecrets: [Redacted.make("unused")], ...settings },
    Memory.layer,
    Spool.layerNone,
    layer,
  )

const submitTo = (url: string, caller = "test") =>
  Effect.flatMap(Offload, (offload) =>
    offload.submit({ caller, input: { prompt: "hello" }, metadata: {}, webhook: { url } }),
  ).pipe(Effect.map(({ snapshot }) => ({ id: snapshot.job.id, delivery: snapshot.job.webhook?.delivery ?? makeId(0) })))

const submitWithWebhook = submitTo(url)

/** The delivery's record, once the job that it is of has ended. */
const deliveryOf = ({ delivery, id }: { readonly id: JobId; readonly delivery: JobId }) =>
  Effect.as(untilStatus(id, "succeeded"), delivery)

describe("a delivery", () => {
  it.live("is posted at once, within its own time, in a job of its own", () => {
    const posted: Array<Message> = []
    return Effect.gen(function* () {
      const offload = yield* Offload
      const submitted = yield* submitWithWebhook
      const delivery = yield* untilStatus(yield* deliveryOf(submitted), "succeeded")
      expect(posted).toMatchObject([{ id: delivery.id, url, timeoutMillis: 7000 }])
      expect((yield* offload.get(submitted.id)).delivery).toEqual(delivery)
      expect(yield* offload.resources).toHaveLength(1)
    }).pipe(
      Effect.provide(
        withWebhooks(
          webhook(() => Effect.void, posted),
          { webhookTimeout: 7000 },
        ),
      ),
    )
  })

  it.live("is tried again as the setting says, spread, whatever the jobs' own backoff is", () =>
    Effect.gen(function* () {
      const id = yield* deliveryOf(yield* submitWithWebhook)
      const failed = yield* until(id, ({ attempts, status }) => status === "queued" && attempts.length === 3)
      expect(failed.maxAttempts).toBe(10)
      const wait = (failed.retryAt ?? 0) - (failed.attempts[2]?.finishedAt ?? 0)
      expect(wait).toBeGreaterThanOrEqual(0.5 * 1_800_000)
      expect(wait).toBeLessThanOrEqual(1.5 * 1_800_000 + 100)
    }).pipe(
      Effect.provide(
        withWebhooks(
          webhook(() => unreachable),
          {
            webhookRetry: [0, 0, 1_800_000, 7_200_000, 1, 2, 3, 4, 5],
            retryBase: 1,
            retryMax: 1,
          },
        ),
      ),
    ),
  )

  it.live("takes no permit of the jobs, and no more than its own", () => {
    let most = 0
    let now = 0
    const slow = Effect.acquireUseRelease(
      Effect.sync(() => {
        now++
        most = Math.max(most, now)
      }),
      () => Effect.never,
      () => Effect.sync(() => now--),
    )
    return Effect.gen(function* () {
      const submitted = yield* Effect.forEach(Array(8), () => submitWithWebhook)
      yield* Effect.forEach(submitted, deliveryOf)
      yield* untilStatus((yield* submit("another")).id, "succeeded")
      yield* Effect.forEach(submitted.slice(0, 3), ({ delivery }) => untilStatus(delivery, "running"))
      yield* holds(() => most >= 3)
      expect(most).toBe(3)
    }).pipe(
      Effect.provide(
        withWebhooks(
          webhook(() => slow),
          { permits: 1, webhookPermits: 3, webhookPermitsPerHost: null },
        ),
      ),
    )
  })

  const toSlow = (message: Message) => (message.url.includes("slow") ? Effect.never : Effect.void)

  it.live("to a slow host leaves permits for other hosts, also of the same caller and far behind it", () => {
    const posted: Array<Message> = []
    const slow = () => posted.filter(({ url }) => url.includes("slow")).length
    return Effect.gen(function* () {
      const first = yield* Effect.forEach(Array(20), (_, n) => submitTo(`https://slow.test/${n}`))
      yield* Effect.forEach(first, deliveryOf)
      yield* holds(() => slow() === 2)
      const other = yield* submitTo("https://fast.test/")
      yield* untilStatus(yield* deliveryOf(other), "succeeded")
      yield* untilStatus(yield* deliveryOf(yield* submitTo("https://fast.test/", "another")), "succeeded")
      expect(slow()).toBe(2)
    }).pipe(Effect.provide(withWebhooks(webhook(toSlow, posted), { webhookPermits: 3, webhookPermitsPerHost: 2 })))
  })

  it.live("of a caller with slow receivers leaves permits for other callers", () => {
    const posted: Array<Message> = []
    return Effect.gen(function* () {
      const first = yield* Effect.forEach(Array(20), (_, n) => submitTo(`https://slow-${n}.test/`, "greedy"))
      yield* Effect.forEach(first, deliveryOf)
      yield* holds(() => posted.length === 2)
      yield* untilStatus(yield* deliveryOf(yield* submitTo("https://fast.test/", "modest")), "succeeded")
      expect(posted).toHaveLength(3)
    }).pipe(Effect.provide(withWebhooks(webhook(toSlow, posted), { webhookPermits: 3, webhookPermitsPerCaller: 2 })))
  })

  it.live("can be cancelled like any job", () =>
    Effect.gen(function* () {
      const offload = yield* Offload
      const id = yield* deliveryOf(yield* submitWithWebhook)
      yield* untilStatus(id, "running")
      yield* offload.cancel(id)
      expect(yield* untilStatus(id, "cancelled")).toMatchObject({ attempts: [{ outcome: "cancelled" }] })
    }).pipe(Effect.provide(withWebhooks(webhook(() => Effect.never)))),
  )

  it.live("is not promised where nothing can sign it", () =>
    Effect.gen(function* () {
      expect(yield* Effect.flip(submitWithWebhook)).toMatchObject({ _tag: "WebhooksNotConfigured" })
      const offload = yield* Offload
      expect((yield* offload.list({ caller: "test", limit: 9 })).jobs).toEqual([])
    }).pipe(
      Effect.provide(
        withWebhooks(
          webhook(() => Effect.void),
          { webhookSecrets: [] },
        ),
      ),
    ),
  )
})
