/** A service that is stopped in the middle of everything (SIGSTOP), and goes on (SIGCONT), or is ended as it stands. */
import { afterEach, expect, it } from "vitest"
import { Service } from "../e2e/Service.js"
import { makeChance, scale, sleep } from "./Chance.js"
import { Ledger } from "./Ledger.js"
import { Lives } from "./Lives.js"
import { load } from "./load.js"

let service: Service
let lives: Lives
afterEach(async () => {
  await service?.dispose()
  lives?.dispose()
})

it(
  "SIGSTOP and SIGCONT at random moments",
  async () => {
    const chance = makeChance()
    lives = new Lives()
    service = await new Service({
      ...lives.env,
      OFFLOAD_DRAIN_SECONDS: "1",
    }).start()
    const ledger = new Ledger(service)
    const stopLoad = load(ledger, chance)
    for (let round = 0; round < scale(3, 60); round++) {
      await sleep(chance.between(0, 800))
      service.signal("SIGSTOP")
      await sleep(chance.one([chance.between(0, 200), chance.between(500, 3000)]))
      const then = chance.one(["go on", "go on", "kill", "stop"])
      if (then === "go on") service.signal("SIGCONT")
      else if (then === "kill") await service.kill()
      else {
        const exit = service.stop()
        service.signal("SIGCONT")
        expect(await exit).toBe(0)
      }
      if (then !== "go on") await service.start()
    }
    await stopLoad()
    expect(await ledger.problems(() => lives.read(), 2, scale(150, 900))).toEqual([])
  },
  scale(240_000, 1_200_000),
)
