/** How a worker of BullMQ asks Redis for ids: it waits on a connection of its own, and tells when it has looked. */
import { type BackendFactory, QueueKeys, RedisConnection, RedisQueueBackend } from "bullmq"
import type { Client } from "../../Redis.js"

export interface Options {
  readonly prefix: string
  readonly client: Client
  /** For what waits: a time limit of its commands must be longer than a wait, or an id goes to a wait that is over. */
  readonly blocking: Client
  /** The longest wait. By itself BullMQ waits for 10 s after an error. */
  readonly waitSeconds: number
  /** Called whenever Redis has answered a look. */
  readonly onLook: () => void
}

class Listening extends RedisQueueBackend {
  constructor(
    private readonly own: Options,
    ...args: ConstructorParameters<typeof RedisQueueBackend>
  ) {
    super(...args)
  }

  override get maximumBlockTimeout(): number {
    return this.own.waitSeconds
  }

  override async moveToActive(...args: Parameters<RedisQueueBackend["moveToActive"]>) {
    const found = await super.moveToActive(...args)
    this.own.onLook()
    return found
  }
}

/** For the constructor of a worker. */
export const make =
  (options: Options): BackendFactory<RedisQueueBackend> =>
  (name, opts) => {
    const names = new QueueKeys(options.prefix)
    // Its version was looked at before; who may not ask for it may use it all the same.
    const connection = new RedisConnection(options.client, { shared: true, blocking: false, skipVersionCheck: true })
    const blocking = new RedisConnection(options.blocking, { shared: false, blocking: true, skipVersionCheck: true })
    const toKey = (type: string) => names.toKey(name, type)
    return new Listening(options, connection, name, names.getKeys(name), toKey, opts, blocking)
  }
