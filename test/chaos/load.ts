/** What callers do all the time, whether or not somebody answers. */
import { type Chance, sleep } from "./Chance.js"
import type { Ledger } from "./Ledger.js"

/** Two clients that do this and that, until the function that is answered is called. */
export const load = (ledger: Ledger, chance: Chance, more: Record<string, unknown> = {}): (() => Promise<void>) => {
  let isOver = false
  const client = async () => {
    for (let n = 0; !isOver; n++) {
      const { accepted, open } = ledger
      const known = chance.is(0.2) ? [...accepted.keys()] : open
      const some = known[chance.whole(0, known.length)]
      const work = { text: `answer ${n}`, millis: chance.whole(0, 150), chunks: chance.one([1, 3]) }
      // No more wait than are done in some seconds, or the end of the test would be long in coming.
      const deed = some === undefined ? 0 : open.length > 25 ? 1 : chance.between(0, 1)
      if (deed < 0.3) await ledger.submit(work, more)
      else if (deed < 0.5) await ledger.submitSurely(work, more)
      else if (deed < 0.6) await ledger.cancel(some ?? "")
      else await ledger.get(some ?? "")
      await sleep(chance.between(30, 150))
    }
  }
  const clients = [client(), client()]
  return async () => {
    isOver = true
    await Promise.all(clients)
  }
}
