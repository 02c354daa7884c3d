// What the client throws. Every message is a sentence that can be shown to a user; what programs need is in fields.

import { camelName, toCamel } from "./case.js";
import type { ErrorCode } from "./types.js";

/** The languages of texts for people. */
export type Language = "ja" | "en";

// No digit is in any of them: apps in the field look for "400" and "409" in texts.
const SENTENCES = {
  aborted: ["操作がキャンセルされました", "The operation was cancelled"],
  connection: [
    "サーバーに接続できませんでした。通信環境を確認してください",
    "The server could not be reached, please check your connection",
  ],
  timeout: [
    "サーバーから応答がありませんでした。しばらくしてからご確認ください",
    "The server did not answer in time, please check again in a moment",
  ],
  unexpected: [
    "問題が発生しました。しばらくしてからもう一度お試しください",
    "Something went wrong, please try again in a moment",
  ],
  busy: [
    "ただいま混み合っています。しばらくしてからもう一度お試しください",
    "We are busy right now, please try again in a moment",
  ],
  malformed: ["入力内容を確認してください", "Please check what you entered"],
  login: ["もう一度ログインしてください", "Please log in again"],
  forbidden: ["この操作は許可されていません", "You may not do this"],
  receipt: ["購入を確認できませんでした", "The purchase could not be confirmed"],
  processed: ["この購入は既に処理されています", "This purchase was already processed"],
} as const;

/** A sentence in a language. */
export function sentence(name: keyof typeof SENTENCES, language: Language): string {
  return SENTENCES[name][language === "en" ? 1 : 0];
}

/** Whatever the client throws. */
export class BillingError extends Error {
  /** Whether the same call may succeed later. */
  readonly retryable: boolean = false;
  /** Whether a change may have happened although it was not answered. Repeat it with its `idempotencyKey`. */
  mayHaveHappened = false;
  /** Whether the call was put into `storage`, from where it is sent again: don't repeat it. */
  kept = false;
  /** The key under which it was sent. */
  idempotencyKey: string | null = null;
  /** What it came from, if anything. */
  readonly cause: unknown;

  constructor(message: string, cause?: unknown) {
    super(message);
    // Where classes are compiled away, `Error` forgets who extends it.
    Object.setPrototypeOf(this, new.target.prototype);
    this.cause = cause;
  }
}
// Set here, for the names of classes don't survive a minifier.
BillingError.prototype.name = "BillingError";

/** There was no connection, or it broke, or what came was not from the service. */
export class ConnectionError extends BillingError {
  override readonly retryable = true;
}
ConnectionError.prototype.name = "ConnectionError";

/** There was no answer in time. */
export class TimeoutError extends BillingError {
  override readonly retryable = true;
}
TimeoutError.prototype.name = "TimeoutError";

/** The caller's `signal` ended the wait. The service may do what was asked all the same. */
export class AbortedError extends BillingError {}
AbortedError.prototype.name = "AbortedError";

/** The service said no. */
export class ApiError extends BillingError {
  readonly status: number;
  /** Why, for programs; `null` where the service gives none. */
  readonly code: ErrorCode | null;
  /** The service's own words; `null` where it has none. */
  readonly detail: string | null;
  /** The numbers and names in it, such as `required` and `available`. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** The id under which the service's log has the request. */
  readonly requestId: string | null;
  /** When to try again, in milliseconds from now; `null` where the service doesn't say. */
  readonly retryAfterMs: number | null;
  override readonly retryable: boolean;

  constructor(message: string, said: Said) {
    super(message);
    this.status = said.status;
    this.code = said.code;
    this.detail = said.detail;
    this.fields = said.fields;
    this.requestId = said.requestId;
    this.retryAfterMs = said.retryAfterMs;
    this.retryable = said.status === 429 || said.status >= 500;
  }
}
ApiError.prototype.name = "ApiError";

/** The request was malformed. */
export class ValidationError extends ApiError {
  /** Everything that is wrong with it. */
  readonly issues: readonly Issue[];

  constructor(message: string, said: Said, issues: readonly Issue[]) {
    super(message, said);
    this.issues = issues;
  }
}
ValidationError.prototype.name = "ValidationError";

/** One thing that is wrong with a request, as pydantic words it. */
export interface Issue {
  type: string;
  /** The way to the field, such as `["body", "allocations", 0, "modelId"]`. */
  loc: (string | number)[];
  msg: string;
}

interface Said {
  status: number;
  code: ErrorCode | null;
  detail: string | null;
  fields: Record<string, unknown>;
  requestId: string | null;
  retryAfterMs: number | null;
}

/** An answer that is not a success. `body` is what it says, `undefined` where that is not JSON. */
export interface Refusal {
  status: number;
  header(name: string): string | null;
  body: unknown;
}

/** Whether the refusal is the service's own: everything it refuses has a `detail`, what a proxy says hasn't. */
export function isOurs(body: unknown): body is { detail: unknown } {
  return typeof body === "object" && body !== null && "detail" in body;
}

/** The error for a refusal. */
export function errorOf(refusal: Refusal, language: Language): ApiError {
  const { status, body } = refusal;
  const { detail, code, ...fields } = isOurs(body)
    ? (body as Record<string, unknown>)
    : ({} as Record<string, unknown>);
  const said: Said = {
    status,
    code: typeof code === "string" ? (code as ErrorCode) : null,
    detail: typeof detail === "string" ? detail : null,
    fields: toCamel(fields) as Record<string, unknown>,
    requestId: refusal.header("x-request-id"),
    retryAfterMs: retryAfterMs(refusal.header("retry-after")),
  };
  if (Array.isArray(detail)) {
    return new ValidationError(sentence("malformed", language), said, detail.map(issueOf));
  }
  // The service names the language of what it wrote for people, and of nothing else.
  const written = said.detail !== null && refusal.header("content-language") !== null;
  const error = new ApiError(written ? (said.detail as string) : sentence(sentenceFor(said), language), said);
  // Under 500 the service says no before it does anything, and so it does where it can't now.
  const undecided = ["deadline_exceeded", "database_unavailable"].includes(said.code ?? "");
  error.mayHaveHappened = status >= 500 ? status !== 503 || said.code === null || undecided : !isOurs(body);
  return error;
}

function sentenceFor({ status, code }: Said): keyof typeof SENTENCES {
  if (code === "invalid_receipt") return "receipt";
  if (code === "purchase_already_processed") return "processed";
  if (status === 401) return "login";
  if (status === 403) return "forbidden";
  if (status === 422) return "malformed";
  return status === 429 || status === 503 ? "busy" : "unexpected";
}

function issueOf(problem: unknown): Issue {
  const { type, loc, msg } = (problem ?? {}) as Partial<Issue>;
  const way = Array.isArray(loc) ? loc : [];
  return {
    type: String(type),
    loc: way.map((step) => (typeof step === "string" ? camelName(step) : step)),
    msg: String(msg),
  };
}

/** `Retry-After` in milliseconds: it holds seconds, or a date. */
function retryAfterMs(header: string | null): number | null {
  if (header === null || header.trim() === "") return null;
  const seconds = Number(header);
  const ms = Number.isNaN(seconds) ? Date.parse(header) - Date.now() : seconds * 1000;
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}
