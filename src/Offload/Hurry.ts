/** Whether a drain may still take its time. */
import { Context, Effect } from "effect"

/**
 * Succeeds when running attempts are to be interrupted at once, though a drain has given them more time: somebody has
 * asked for the end of the service a second time. Default: never.
 */
export class Hurry extends Context.Reference<Hurry>()<"effect-offload/Hurry", Effect.Effect<void>>(
  "effect-offload/Hurry",
  { defaultValue: () => Effect.never },
) {}
