#!/usr/bin/env node
/** The command line of the package. */
import { run } from "./Audit.js"

const { exitCode, stderr, stdout } = run(process.argv.slice(2), process.cwd())
process.stdout.write(stdout)
process.stderr.write(stderr)
process.exitCode = exitCode
