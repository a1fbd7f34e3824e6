/**
 * A response's stream, written from the job's log. Its last events repeat the whole text: it is read again for each of
 * them, page by page, so that a reader holds no more of it than one of the job's own events.
 */
import { Effect } from "effect"
import type { Input, Job } from "../../Job.js"
import type { Pull } from "../EventStreams.js"
import type { ReadPage } from "../LogPages.js"
import * as Events from "./Events.js"

/** A text that is being repeated, and what comes after it. */
interface Repeat {
  readonly after: number
  readonly last: number
  readonly rest: string
}

/** Pulls the events after number `after`: all of them are told again, and those that the reader has are left out. */
export const pull = <E>(job: Job, input: Input, after: number, read: ReadPage<E>): Pull<E> => {
  let position = Events.start
  let told: Array<Events.Message> = []
  let repeat: Repeat | null = null
  let from = 0
  let ended = false

  const advance = (entry: Events.Entry): void => {
    const step = Events.advance(job, input, position, entry)
    position = step.to
    told.push(...step.told.filter(({ sequence_number }) => sequence_number > after))
  }

  const goOn = ({ last, rest, ...repeated }: Repeat): Effect.Effect<string, E> =>
    Effect.map(read(repeated.after), ({ events }) => {
      const within = events.filter(({ event }) => event <= last)
      const reached = within.at(-1)?.event ?? last
      repeat = reached < last ? { after: reached, last, rest } : null
      return within.map(Events.textOf).join("") + (repeat === null ? rest : "")
    })

  const tell = (): string => {
    const [message, ...others] = told
    told = others
    if (message === undefined) return ""
    const { rest, span, text } = Events.encode(message)
    if (span !== null) repeat = { ...span, rest }
    return text
  }

  return Effect.suspend((): Effect.Effect<string | null, E> => {
    if (repeat !== null) return goOn(repeat)
    if (told.length > 0) return Effect.succeed(tell())
    if (ended) return Effect.succeed(null)
    return Effect.map(read(from), (page) => {
      for (const event of page.events) advance(event)
      from = page.events.at(-1)?.event ?? from
      ended = page.ended
      if (ended) advance({ type: "ended", job: page.job })
      return ""
    })
  })
}
