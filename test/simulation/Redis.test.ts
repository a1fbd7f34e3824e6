import { randomUUID } from "node:crypto"
import { Context, Effect, Layer } from "effect"
import { afterAll, beforeAll, describe, it } from "vitest"
import * as Redis from "../../src/Store/Redis.js"
import { Store } from "../../src/Store.js"
import { hasRedis, RedisServer } from "../Store/redisServer.js"
import { holds } from "./property.js"
import { timeoutMillis } from "./runs.js"

// What a Redis writes to its disk is no matter of these runs.
const server = new RedisServer(["--appendonly", "no"])

const data = Effect.sync(() => {
  const layer = Redis.layer({ url: server.url, prefix: `{${randomUUID()}}:` })
  return Effect.map(Layer.build(layer), (context) => Context.get(context, Store))
})

describe.skipIf(!hasRedis)("redis", () => {
  beforeAll(() => server.start())
  afterAll(() => server.dispose())

  it(
    "a store in Redis does what the model says, whatever its caller learns of it",
    () => holds(data, 150),
    timeoutMillis,
  )
})
