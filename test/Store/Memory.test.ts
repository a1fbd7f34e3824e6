import { describe } from "vitest"
import * as Memory from "../../src/Store/Memory.js"
import { property } from "./model.js"
import { suite } from "./suite.js"

suite("memory", Memory.layer)

describe("memory: a store", () => {
  property(Memory.layer, 200)
})
