// Preloaded into the service of the leak check: collects its garbage whenever it gets SIGUSR2, so that what it holds
// can be told from what lies about.
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc")
process.on("SIGUSR2", () => collect())
