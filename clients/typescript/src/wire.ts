// The service's answers and requests as they are on the wire, for calls that its document doesn't describe yet.
// Nothing else belongs here: a call that the document has comes from `openapi.ts`.

/** The document's schemas, and those written by hand. */
export interface Wire {
  Wallet: {
    credits: { total: number; bonus: number };
    tokens: Record<string, { allocated: number; held: number; available: number }>;
    categories: Record<string, { total_tokens: number; limit_tokens: number; free_tokens: number }>;
    frozen: boolean;
  };
  Hold: {
    hold_id: string;
    status: "held" | "settled" | "released" | "expired";
    model_id: string;
    held_tokens: number;
    available_tokens: number;
    /** RFC 3339, in UTC. */
    expires_at: string;
  };
  HoldRequest: { model_id: string; tokens: number; min_tokens?: number; ttl_seconds?: number };
  Used: { input_tokens: number; output_tokens: number };
  Settled: {
    hold_id: string;
    status: "settled";
    consumed_tokens: number;
    released_tokens: number;
    shortfall_tokens: number;
    remaining_tokens: number;
    transaction_id: number;
  };
  Released: { hold_id: string; status: "released"; released_tokens: number; remaining_tokens: number };
  Reverse: { transaction_id: number; tokens?: number; reason: string };
  Reversed: { success: boolean; reversed_tokens: number; reversible_tokens: number; remaining_tokens: number };
  Return: { model_id: string };
  Returned: {
    success: boolean;
    returned_tokens: number;
    returned_credits: number;
    credits: number;
    remaining_tokens: number;
  };
  LedgerEntry: {
    id: number;
    type: EntryType;
    amount: number;
    credits_delta: number;
    bonus_delta: number;
    tokens_delta: number;
    model_id: string | null;
    price_per_m_token: number | null;
    input_tokens: number | null;
    output_tokens: number | null;
    shortfall_tokens: number | null;
    store_transaction_id: string | null;
    reverses: number | null;
    allocation_id: number | null;
    hold_id: string | null;
    reason: string | null;
    actor: "backend" | "operator" | "store" | null;
    /** RFC 3339, in UTC with microseconds. */
    created_at: string;
  };
  Usage: {
    timezone: string;
    from: string;
    to: string;
    items: UsageItem[];
    totals: UsageFigures;
  };
  Consent: { apple_consumption: boolean };
}

/** What an entry of the ledger may be. */
export type EntryType =
  | "purchase"
  | "allocation"
  | "consumption"
  | "refund"
  | "reversal"
  | "return"
  | "grant"
  | "adjustment";

interface UsageFigures {
  requests: number;
  input_tokens: number;
  output_tokens: number;
  total_tokens: number;
  reversed_tokens: number;
  /** Millionths of a credit. */
  cost_credits_micro: number;
}

interface UsageItem extends UsageFigures {
  /** The day, `2026-11-01`, where it was asked for by day. */
  day?: string;
  /** The month, `2026-11`, where it was asked for by month. */
  month?: string;
  model_id: string;
}

/** Codes of errors that the document doesn't have yet. */
export type LaterCode =
  | "forbidden"
  | "account_frozen"
  | "too_many_holds"
  | "hold_closed"
  | "hold_not_found"
  | "transaction_not_found"
  | "not_reversible"
  | "already_reversed"
  | "return_too_small";
