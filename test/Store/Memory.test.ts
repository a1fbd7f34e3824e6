import * as Memory from "../../src/Store/Memory.js"
import { suite } from "./suite.js"

suite("memory", Memory.layer)
