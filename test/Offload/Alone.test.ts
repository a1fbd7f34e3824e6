import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { isClosed, mayBegin, turnMillis } from "../../src/Offload/Alone.js"

const nobody = { carried: 0, isAlone: false, waitingSince: null }

describe("a suspect", () => {
  it("begins only in a process that runs nothing, whatever the turn", () => {
    expect(mayBegin(true, nobody, 0)).toBe(true)
    expect(mayBegin(true, { ...nobody, carried: 1 }, 0)).toBe(false)
    expect(mayBegin(true, { carried: 0, isAlone: false, waitingSince: 0 }, turnMillis)).toBe(true)
    expect(mayBegin(true, { carried: 1, isAlone: true, waitingSince: null }, 0)).toBe(false)
  })
})

describe("an ordinary job", () => {
  it("begins beside others, and not beside one that runs alone", () => {
    expect(mayBegin(false, { ...nobody, carried: 5 }, 0)).toBe(true)
    expect(mayBegin(false, { carried: 1, isAlone: true, waitingSince: null }, 0)).toBe(false)
  })

  it("takes turns with a suspect that waits: closed and open for 10 s each, then for 20, then for 40", () => {
    const waiting = { carried: 1, isAlone: false, waitingSince: 5 }
    const turns = [0, 10, 20, 40, 60, 100, 140].map((seconds) => mayBegin(false, waiting, 5 + seconds * 1000))
    expect(turns).toEqual([false, true, false, true, false, true, false])
  })
})

describe("the turns", () => {
  it("leave the ordinary jobs a quarter of any time from the first open turn on", () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 5000 }), (seconds) => {
        const open = Array.from({ length: seconds }, (_, second) => isClosed(second * 10_000)).filter((is) => !is)
        expect(open.length / seconds).toBeGreaterThanOrEqual(1 / 4)
      }),
    )
  })

  it("have a closed one that is as long as the longest attempt within five times its length", () => {
    fc.assert(
      fc.property(fc.integer({ min: turnMillis, max: 10_000_000 }), (longest) => {
        const step = turnMillis
        let closedFor = 0
        let waited = 0
        while (closedFor < longest) {
          closedFor = isClosed(waited) ? closedFor + step : 0
          waited += step
        }
        expect(waited).toBeLessThanOrEqual(5 * longest + step)
      }),
    )
  })
})
