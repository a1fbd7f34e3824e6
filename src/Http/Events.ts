/**
 * A job's life as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): `status`,
 * `output` and at the end `done`. Event ids are the numbers of the job's log, so that `Last-Event-ID` resumes the
 * stream with nothing lost or repeated, also after a restart.
 */
import { HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { EventsHeaders } from "../Api.js"
import { toIso } from "../Job/Plausible.js"
import { type Event, isTerminal, type Job } from "../Job.js"
import { Offload } from "../Offload.js"
import { Admission } from "./Admission.js"
import { ownJob } from "./Caller.js"
import { eventStream } from "./EventStreams.js"
import { requestHeaders } from "./Jobs.js"
import { paged } from "./LogPages.js"

export const jobEvents = Effect.gen(function* () {
  const offload = yield* Offload
  const after = (yield* requestHeaders(EventsHeaders))["last-event-id"] ?? 0
  const job = yield* ownJob
  const { id } = job

  // The reader has everything, `done` included: 204 tells an EventSource not to come again.
  if (isTerminal(job.status) && after > job.events) return HttpServerResponse.empty({ status: 204 })
  yield* (yield* Admission).stream(job.caller)

  const read = paged((from, limit) => offload.eventsAfter(id, from, limit))
  let from = Math.min(after, job.events)
  let head = "retry: 1000\n\n"
  let ended = false
  const pull = Effect.suspend(() => {
    if (ended) return Effect.succeed(null)
    if (head !== "") {
      const text = head
      head = ""
      return Effect.succeed(text)
    }
    return Effect.map(read(from), (page) => {
      from = page.events.at(-1)?.event ?? from
      ended = page.ended
      return page.events.map(encode).join("") + (ended ? done(page.job) : "")
    })
  })
  return yield* eventStream(pull)
}).pipe(Effect.scoped)

const encode = (event: Event): string => {
  switch (event.type) {
    case "status":
      return message(event.event, "status", {
        status: event.status,
        attempt: event.attempt,
        at: toIso(event.at),
        error: event.error,
      })
    case "output":
      return message(event.event, "output", { attempt: event.attempt, text: event.text })
  }
}

/** Its id is one more than the last of the log, so that a reader that has it is told apart from one that has not. */
const done = (job: Job): string =>
  message(job.events + 1, "done", {
    status: job.status,
    attempt: job.attempt,
    error: job.error,
    usage: job.usage,
    truncated: job.truncated,
  })

const message = (id: number, event: string, data: unknown): string =>
  `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
