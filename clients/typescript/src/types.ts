// The types that users of the client see: the wire's in camelCase, with a name for each.

import type { Camel, CamelRequest } from "./case.js";
import type { components, operations } from "./openapi.js";

type Schemas = components["schemas"];
type Query<Name extends "transactions" | "quote" | "usage"> = CamelRequest<
  NonNullable<operations[Name]["parameters"]["query"]>
>;

/** Why not, for programs. */
export type ErrorCode = Schemas["Code"] | Schemas["RefusalCode"] | Schemas["UnavailableCode"];
/** What a model is for. */
export type Category = Schemas["CategoryName"];

export type Balance = Camel<Schemas["Balance"]>;
export type CategoryTotal = Camel<Schemas["CategoryTotal"]>;
/** Prices by model. */
export type Pricing = Camel<Schemas["Prices"]>;
/** Products by the name that the app stores know them by. */
export type Products = Camel<Schemas["Products"]>;
/** What an allocation would buy, and the most that could be. */
export type Quote = Camel<Schemas["Quoted"]>;
export type Health = Camel<Schemas["Health"]>;
export type Success = Camel<Schemas["Success"]>;
export type Consumed = Camel<Schemas["Consumed"]>;
/** A line of the history. */
export type Transaction = Camel<Schemas["HistoryLine"]>;
/** What an entry of the ledger may be. */
export type EntryType = Transaction["type"];
export type Wallet = Camel<Schemas["Wallet"]>;
export type Hold = Camel<Schemas["Hold"]>;
/** How a hold was settled. */
export type Settled = Camel<Schemas["SettledHold"]>;
export type Released = Camel<Schemas["ReleasedHold"]>;
export type Reversed = Camel<Schemas["ConsumptionReversed"]>;
export type Returned = Camel<Schemas["UnusedReturned"]>;
export type LedgerEntry = Camel<Schemas["LedgerItem"]>;
/** A page of the ledger. */
export type Ledger = Camel<Schemas["Ledger"]>;
/** What was used between two days. */
export type Usage = Camel<Schemas["UsageTold"]>;

/** What the app store said of a purchase. Kept to the letter by the service. */
export interface PurchaseRecord {
  productId?: string;
  transactionId?: string | null;
  purchaseToken?: string | null;
  [field: string]: unknown;
}

/**
 * `credits` is what the app takes the purchase for: 1 to 1,000,000,000. Where stores confirm purchases, their word
 * counts.
 */
export type AddParams = Omit<CamelRequest<Schemas["AddCredits"]>, "purchaseRecord"> & {
  purchaseRecord: PurchaseRecord;
};

export type AllocateParams = CamelRequest<Schemas["Allocate"]>;
export type ConsumeParams = CamelRequest<Schemas["Consume"]>;
export type HoldParams = CamelRequest<Schemas["CreateHold"]>;
export type ReverseParams = CamelRequest<Schemas["ReverseConsumption"]>;
export type ReturnParams = CamelRequest<Schemas["ReturnUnused"]>;
export type ConsentParams = CamelRequest<Schemas["Consent"]>;
/** What a chat used, so far or in all. */
export type Used = CamelRequest<Schemas["SettleHold"]>;
/** Credits to spend, or tokens to get. */
export type QuoteParams = Pick<Query<"quote">, "modelId"> &
  ({ credits: number; tokens?: undefined } | { tokens: number; credits?: undefined });
/**
 * Which entries, and how many: `limit` of a page is 1 to 1000, 100 unless told; `before` has only those that are older
 * than the one with this id.
 */
export type ListParams = Query<"transactions">;
/**
 * `from` the first day, `2026-11-01`, `to` the last one, counted too. `by` is `day` unless told; `timezone` is the zone of
 * the days, such as `Asia/Tokyo`, UTC unless told.
 */
export type UsageParams = Query<"usage">;
