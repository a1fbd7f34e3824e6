/** The HTTP side that the contenders with Fastify share: a checked body, and an answer of a checked shape. */
import Fastify from "fastify"

const schema = {
  body: {
    type: "object",
    required: ["prompt"],
    additionalProperties: false,
    properties: { prompt: { type: "string", minLength: 1 } },
  },
  response: { 202: { type: "object", properties: { id: { type: "string" }, status: { type: "string" } } } },
}

/** Serves `POST /jobs`; `save` keeps a job and answers its id. */
export const serve = async (save) => {
  const app = Fastify()
  app.post("/jobs", { schema }, async (request, reply) => {
    const id = await save(request.body.prompt)
    reply.code(202).header("location", `/jobs/${id}`)
    return { id, status: "queued" }
  })
  app.get("/health/live", async () => ({ status: "live" }))
  await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) })
}
