/** A database of the benchmark's own, on the PostgreSQL that the `PG…` variables name: one on loopback by default. */
import pg from "pg"

const connection = {
  host: process.env.PGHOST ?? "127.0.0.1",
  port: Number(process.env.PGPORT ?? 5432),
  user: process.env.PGUSER ?? "postgres",
  connectionTimeoutMillis: 2000,
}

const name = `offload_bench_${process.pid}`

const run = async (...statements) => {
  const client = new pg.Client({ ...connection, database: "postgres" })
  await client.connect()
  try {
    for (const statement of statements) await client.query(statement)
  } finally {
    await client.end()
  }
}

/** Why there is none; `null`: there is one. */
export const whyNoPostgres = async () => {
  try {
    await run("SELECT 1")
    return null
  } catch (error) {
    return `no PostgreSQL at ${connection.host}:${connection.port} (${error.code ?? error.message})`
  }
}

/** An empty database. */
export const startPostgres = async () => {
  const remove = `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`
  await run(remove, `CREATE DATABASE ${name}`)
  const { host, port, user } = connection
  return { url: `postgres://${user}@${host}:${port}/${name}`, stop: () => run(remove) }
}
