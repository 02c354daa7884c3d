// The service's answers and requests as they are on the wire, for calls that its document doesn't describe yet.
// Nothing else belongs here: a call that the document has comes from `openapi.ts`.

/** Schemas written by hand. */
export interface Wire {
  Usage: {
    timezone: string;
    from: string;
    to: string;
    items: UsageItem[];
    totals: UsageFigures;
  };
}

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
export type LaterCode = "account_frozen";
