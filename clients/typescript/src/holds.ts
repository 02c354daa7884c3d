// Chats whose cost is known when they end: tokens are reserved before, and what was used is settled after.

import { BillingError } from "./errors.js";
import type { CallOptions } from "./transport.js";
import type { Hold, HoldParams, Released, Settled, Used } from "./types.js";

/** A hold while a chat runs on it. */
export interface RunningHold extends Hold {
  /** Says what was used so far, in all: this is settled if the chat breaks off. What is left out stays as it was. */
  used(soFar: Partial<Used>): void;
}

interface Holder {
  holds: {
    create(params: HoldParams, options?: CallOptions): Promise<Hold>;
    settle(holdId: string, used: Used, options?: CallOptions): Promise<Settled>;
    release(holdId: string, options?: CallOptions): Promise<Released>;
  };
}

/** See `BillingClient.withHold`. */
export async function withHold<U extends Used>(
  client: Holder,
  modelId: string,
  params: Omit<HoldParams, "modelId">,
  work: (hold: RunningHold) => Promise<U>,
  options: CallOptions = {},
): Promise<Settled & { usage: U }> {
  const hold = await client.holds.create({ ...params, modelId }, options);
  // The key named the reservation, and who gives up on the chat still pays for it.
  const { timeoutMs, maxRetries } = options;
  const ending = { timeoutMs, maxRetries };
  const used: Used = { inputTokens: 0, outputTokens: 0 };
  let usage: U;
  try {
    usage = await work({
      ...hold,
      used: ({ inputTokens = used.inputTokens, outputTokens = used.outputTokens }) => {
        used.inputTokens = inputTokens;
        used.outputTokens = outputTokens;
      },
    });
  } catch (error) {
    const ended =
      used.inputTokens + used.outputTokens > 0
        ? client.holds.settle(hold.holdId, used, ending)
        : client.holds.release(hold.holdId, ending);
    // What broke the chat says more. A settlement without an answer is kept, and a hold ends by itself.
    await ended.catch((failed) => {
      if (!(failed instanceof BillingError)) throw failed;
    });
    throw error;
  }
  return { ...(await client.holds.settle(hold.holdId, usage, ending)), usage };
}
