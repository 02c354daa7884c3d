// What the package offers.

export { BillingClient, type ClientOptions, type Resumed } from "./client.js";
export {
  AbortedError,
  ApiError,
  BillingError,
  ConnectionError,
  type Issue,
  type Language,
  TimeoutError,
  ValidationError,
} from "./errors.js";
export type { RunningHold } from "./holds.js";
export type { ClientStorage } from "./outbox.js";
export { List, type Page } from "./pages.js";
export type { AbortSignalLike, Fetch, FetchInit, FetchResponse } from "./platform.js";
export type { PurchaseResult } from "./purchases.js";
export type { CallOptions } from "./transport.js";
export type * from "./types.js";
