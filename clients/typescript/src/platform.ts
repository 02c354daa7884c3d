// What the client needs of its surroundings, as types written by hand: there is no DOM on a phone and no Node in a
// browser. Whatever is used beside the language itself is declared here and nowhere else.

/** The part of a response that is read. */
export interface FetchResponse {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  text(): Promise<string>;
}

/** What a request is made with. */
export interface FetchInit {
  method: string;
  headers: Record<string, string>;
  body?: string;
  // biome-ignore lint/suspicious/noExplicitAny: every platform has a type of its own for it
  signal?: any;
}

/** The platform's `fetch`, or one that stands in for it. */
export type Fetch = (url: string, init: FetchInit) => Promise<FetchResponse>;

/** An `AbortSignal` as far as it is used. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

interface AbortControllerLike {
  readonly signal: AbortSignalLike;
  abort(): void;
}

declare const fetch: Fetch | undefined;
declare const AbortController: (new () => AbortControllerLike) | undefined;
declare function setTimeout(run: () => void, ms: number): unknown;
declare function clearTimeout(timer: unknown): void;

/** The platform's `fetch`, looked up when it is called: apps replace it after their start. */
export const platformFetch: Fetch = (url, init) => {
  if (typeof fetch !== "function") throw new Error("There is no fetch here: pass one to BillingClient");
  return fetch(url, init);
};

/** A new controller, or none where the platform has none. */
export function abortController(): AbortControllerLike | undefined {
  return typeof AbortController === "function" ? new AbortController() : undefined;
}

/** Runs something later; what is returned calls it off. */
export function later(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
}
