// What the types promise.

import { expectTypeOf, test } from "vitest";
import type { BillingApiService } from "../src/compat.ts";
import { type ApiError, BillingClient, type ErrorCode, type Page, type PurchaseResult } from "../src/index.ts";
import type { WalletState } from "../src/react.ts";

declare const client: BillingClient;

test("answers are in camelCase, and whole", () => {
  expectTypeOf(client.balance).returns.resolves.toEqualTypeOf<{
    credits: number;
    allocatedTokens: Record<string, number>;
  }>();
  expectTypeOf(client.pricing).returns.resolves.toEqualTypeOf<
    Record<string, { pricePerMToken: number; category: "quick" | "think" }>
  >();
  expectTypeOf<Awaited<ReturnType<typeof client.quote>>["limitedBy"]>().toEqualTypeOf<
    "credits" | "capacity" | "too_small" | null
  >();
  type Line = Awaited<ReturnType<typeof client.transactions.list>>["items"][number];
  expectTypeOf<Line["modelId"]>().toEqualTypeOf<string | null>();
  expectTypeOf<Line["createdAt"]>().toEqualTypeOf<string>();
  type Tokens = Awaited<ReturnType<typeof client.wallet>>["tokens"];
  expectTypeOf<Tokens[string]>().toEqualTypeOf<{ allocated: number; held: number; available: number }>();
});

test("requests are in camelCase", () => {
  expectTypeOf(client.tokens.consume)
    .parameter(0)
    .toEqualTypeOf<{ modelId: string; inputTokens: number; outputTokens: number }>();
  expectTypeOf(client.credits.allocate)
    .parameter(0)
    .toEqualTypeOf<{ allocations: { modelId: string; credits: number }[] }>();
  // @ts-expect-error: one of the two
  client.quote({ modelId: "m", credits: 1, tokens: 1 });
  // @ts-expect-error: not the wire's spelling
  client.tokens.consume({ model_id: "m", input_tokens: 1, output_tokens: 1 });
});

test("a list is a page and all pages", () => {
  const list = client.ledger.list();
  type Entry = Awaited<typeof list>["items"][number];
  expectTypeOf<Awaited<typeof list>>().toEqualTypeOf<Page<Entry>>();
  expectTypeOf(list).toExtend<AsyncIterable<Entry>>();
});

test("a purchase may be finished where its type says so", () => {
  type Finished = Extract<PurchaseResult, { finishTransaction: true }>["status"];
  expectTypeOf<Finished>().toEqualTypeOf<"granted" | "already_granted" | "invalid">();
  type Open = Extract<PurchaseResult, { finishTransaction: false }>["status"];
  expectTypeOf<Open>().toEqualTypeOf<"later">();
});

test("codes are the document's", () => {
  expectTypeOf<"capacity_exceeded">().toExtend<ErrorCode>();
  expectTypeOf<"purchase_pending">().toExtend<ErrorCode>();
  expectTypeOf<"hold_closed">().toExtend<ErrorCode>();
  expectTypeOf<"no_such_code">().not.toExtend<ErrorCode>();
  expectTypeOf<ApiError["code"]>().toEqualTypeOf<ErrorCode | null>();
});

test("every platform's fetch, signal and storage will do", () => {
  new BillingClient({ baseUrl: "", fetch, storage: localStorage, token: async () => "t" });
  new BillingClient({ baseUrl: "", storage: {} as import("../src/index.ts").ClientStorage });
  client.balance({ signal: new AbortController().signal });
});

test("the app's class has the original's methods", () => {
  expectTypeOf<BillingApiService["getBalance"]>().toEqualTypeOf<
    () => Promise<{ credits: number; allocatedTokens: Record<string, number> }>
  >();
  expectTypeOf<BillingApiService["consumeTokens"]>().toEqualTypeOf<
    (
      modelId: string,
      inputTokens: number,
      outputTokens: number,
    ) => Promise<{ success: boolean; remainingTokens: number }>
  >();
  expectTypeOf<BillingApiService["getCategoryBalance"]>().toEqualTypeOf<
    (category: "quick" | "think") => Promise<number>
  >();
});

test("withHold hands on what the chat returns", () => {
  const done = client.withHold("m", { tokens: 1 }, async () => ({ inputTokens: 1, outputTokens: 1, text: "t" }));
  expectTypeOf<Awaited<typeof done>["usage"]["text"]>().toEqualTypeOf<string>();
  expectTypeOf<WalletState["refresh"]>().toEqualTypeOf<() => Promise<void>>();
});
