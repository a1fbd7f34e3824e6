/**
 * Promises 1, 2, 3 and 6: every 202 is durable and ends once, through kill -9 at any moment, also of a start that is
 * not done; never more attempts than permits, the orphans among them; what has ended stays as it is.
 */
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

it.each(["auto", "group"])(
  "kill -9 at random moments, with containment %s",
  async (containment) => {
    const chance = makeChance()
    lives = new Lives()
    service = await new Service({
      ...lives.env,
      OFFLOAD_CONTAINMENT: containment,
    }).start()
    const ledger = new Ledger(service)
    const stopLoad = load(ledger, chance)
    for (let round = 0; round < scale(containment === "auto" ? 3 : 1, 100); round++) {
      await sleep(chance.between(0, 800))
      await service.kill()
      if (chance.is(0.3)) {
        const start = service.start().then(
          () => "started",
          () => "killed",
        )
        await sleep(chance.between(0, 1500))
        await service.kill()
        await start
      }
      await service.start()
    }
    await stopLoad()
    expect(await ledger.problems(() => lives.read(), 2, scale(150, 900))).toEqual([])
    // And all of it is so after another start.
    await service.kill()
    await service.start()
    expect(await ledger.problems(() => lives.read())).toEqual([])
    expect(ledger.accepted.size).toBeGreaterThan(0)
    expect(ledger.unanswered).toBeGreaterThan(0)
  },
  scale(240_000, 1_800_000),
)
