// A command that does what its prompt says, a JSON object: { text, chunks, millis, exit, stderr, ignoreTerm }.
let input = ""
for await (const chunk of process.stdin) input += chunk
const { chunks = 1, exit = 0, ignoreTerm = false, millis = 0, stderr = "", text = "" } = JSON.parse(input)

if (ignoreTerm) process.on("SIGTERM", () => {})
for (let chunk = 0; chunk < chunks; chunk++) {
  process.stdout.write(chunks === 1 ? text : `${text} ${chunk}\n`)
  await new Promise((resolve) => setTimeout(resolve, millis / chunks))
}
if (stderr !== "") process.stderr.write(stderr)
process.exitCode = exit
