/** What a decision about a job answers, and makes of it. */
import { arising } from "../../Job/Delivery.js"
import type { Job } from "../../Job.js"
import type { Decision } from "../Decision.js"
import * as Record from "../Record.js"
import type { Plan } from "./Jobs.js"
import { placeholder } from "./Sequence.js"

/** Changes nothing. */
export const keep = <A>(answer: A): Plan<A> => ({ answer, next: null })

/** The next record, with its delivery where it ends, and its event of a new state, after `text` of its output as the event before. */
export const move = <A>(before: Job, job: Job, now: number, answer: A, text = ""): Plan<A> => {
  const changed = before.status !== job.status
  const output = before.events + 1
  return {
    answer,
    next: {
      job,
      delivery: arising(before, job, () => placeholder, now),
      events: [
        ...(text === "" ? [] : [[output, Record.outputEvent(before, output, now, text)] as const]),
        ...(changed ? [[job.events, Record.statusEvent(job, now)] as const] : []),
      ],
    },
  }
}

/** What adds work. */
export const growing = <A>({ answer, next }: Plan<A>): Plan<A> => ({
  answer,
  next: next === null ? null : { ...next, isGrowth: true },
})

/** What was decided. */
export const plan =
  (before: Job, now: number) =>
  <A>({ answer, next }: Decision<A>): Plan<A> =>
    next === null ? keep(answer) : move(before, next.job, now, answer, next.text)
