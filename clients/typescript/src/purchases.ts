// What becomes of a purchase: whether it is granted, and whether the store's transaction may be finished. It is told
// by the service's codes alone, never by a text and never by a status that something on the way could have sent.

import { ApiError, BillingError } from "./errors.js";
import type { components } from "./openapi.js";
import type { Answer } from "./transport.js";
import type { PurchaseRecord } from "./types.js";

/** Finish the store's transaction where `finishTransaction` is true, and nowhere else. */
export type PurchaseResult =
  /** The credits are there. */
  | { status: "granted"; finishTransaction: true; newBalance: number }
  /** They were there before; `newBalance` is `null` where somebody else got them. */
  | { status: "already_granted"; finishTransaction: true; newBalance: number | null }
  /** It can never become valid. */
  | { status: "invalid"; finishTransaction: true; error: ApiError }
  /** Not yet: `error` says why, `kept` whether it is sent again by itself. */
  | { status: "later"; finishTransaction: false; retryAfterMs: number | null; kept: boolean; error: BillingError };

/** What the store calls the purchase; `undefined` where it has no name. */
export function purchaseName({ purchaseToken, transactionId }: PurchaseRecord): string | undefined {
  return purchaseToken || transactionId || undefined;
}

/** Sends a purchase and tells what became of it. */
export async function purchaseResult(send: () => Promise<Answer>): Promise<PurchaseResult> {
  try {
    const answer = await send();
    const newBalance = (answer.body as components["schemas"]["CreditsAdded"]).new_balance;
    // After a try without an answer it can't be told whether that one did it.
    const before = answer.header("idempotency-replayed") === "true" && !answer.repeated;
    return { status: before ? "already_granted" : "granted", finishTransaction: true, newBalance };
  } catch (error) {
    if (!(error instanceof BillingError)) throw error;
    const code = error instanceof ApiError ? error.code : null;
    if (code === "purchase_already_processed") {
      return { status: "already_granted", finishTransaction: true, newBalance: null };
    }
    if (code === "invalid_receipt") return { status: "invalid", finishTransaction: true, error: error as ApiError };
    const retryAfterMs = error instanceof ApiError ? error.retryAfterMs : null;
    return { status: "later", finishTransaction: false, retryAfterMs, kept: error.kept, error };
  }
}
