// Every refusal: its class, its code, what it tells, and that its message can be shown. Those that a test can bring about
// come from the service, all of them once more as its document has them.

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ApiError, BillingClient, BillingError, ValidationError } from "../src/index.ts";
import { LOGINS, login, Service } from "./harness/service.ts";

const FLASH = "gemini-2.0-flash";
let service: Service;
let client: BillingClient;
beforeAll(async () => {
  service = await Service.start(LOGINS);
  client = service.as("payer");
  await client.credits.add({ credits: 1000, purchaseRecord: { transactionId: "GPA.payer" } });
});
afterAll(() => service.stop());

async function refusal(call: PromiseLike<unknown>): Promise<ApiError> {
  const error = await Promise.resolve(call).then(
    () => undefined,
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toBeInstanceOf(BillingError);
  expect(error).toBeInstanceOf(Error);
  expect(error.message).not.toMatch(/\[object|undefined|NaN|null/);
  expect(error.message).toMatch(/^[A-Z].+ .+/);
  return error;
}

const allocate = (modelId: string, credits: number) => client.credits.allocate({ allocations: [{ modelId, credits }] });
const consume = (modelId: string, inputTokens: number) =>
  client.tokens.consume({ modelId, inputTokens, outputTokens: 0 });

test("insufficient_credits", async () => {
  const error = await refusal(allocate(FLASH, 1001));
  expect(error).toMatchObject({ status: 400, code: "insufficient_credits", retryable: false, retryAfterMs: null });
  expect(error.fields).toEqual({ required: 1001, available: 1000 });
  expect(error.message).toBe(error.detail);
  expect(error.requestId).toMatch(/^[\w.-]+$/);
});

test("model_not_priced", async () => {
  expect(await refusal(allocate("unknown", 1))).toMatchObject({
    code: "model_not_priced",
    fields: { modelId: "unknown" },
  });
});

test("capacity_exceeded", async () => {
  expect(await refusal(allocate(FLASH, 376))).toMatchObject({
    code: "capacity_exceeded",
    fields: { category: "quick", limit: 5_000_000, available: 5_000_000, maxCredits: 375 },
  });
});

test("allocation_too_small", async () => {
  service.sql("UPDATE token_pricing SET price_per_m_token = 2000000 WHERE model_id = 'gemini-2.5-pro'");
  expect(await refusal(allocate("gemini-2.5-pro", 1))).toMatchObject({ code: "allocation_too_small" });
});

test("no_token_balance, insufficient_tokens", async () => {
  expect(await refusal(consume(FLASH, 1))).toMatchObject({ code: "no_token_balance", fields: { modelId: FLASH } });
  await allocate(FLASH, 3);
  expect(await refusal(consume(FLASH, 40_001))).toMatchObject({
    code: "insufficient_tokens",
    fields: { required: 40_001, available: 40_000 },
  });
});

test("invalid_category", async () => {
  expect(await refusal(client.categoryTotal("other" as "quick"))).toMatchObject({ code: "invalid_category" });
});

test("reset_disabled", async () => {
  expect(await refusal(client.reset())).toMatchObject({ status: 403, code: "reset_disabled" });
});

test("unauthorized", async () => {
  const error = await refusal(service.client().balance());
  expect(error).toMatchObject({ status: 401, code: "unauthorized", message: "Please log in again" });
  expect(await refusal(service.client({ token: login("late", { exp: 1 }) }).balance())).toMatchObject({ status: 401 });
});

test("a malformed request names every field", async () => {
  const error = await refusal(
    client.credits.allocate({
      allocations: [
        { modelId: "", credits: 0 },
        { modelId: FLASH, credits: 1.5 },
      ],
    }),
  );
  expect(error).toBeInstanceOf(ValidationError);
  expect(error).toMatchObject({ status: 422, code: null, detail: null, retryable: false });
  expect((error as ValidationError).issues).toEqual([
    { type: "string_too_short", loc: ["body", "allocations", 0, "modelId"], msg: expect.any(String) },
    { type: "greater_than", loc: ["body", "allocations", 0, "credits"], msg: "Input should be greater than 0" },
    { type: "int_from_float", loc: ["body", "allocations", 1, "credits"], msg: expect.any(String) },
  ]);
});

test("idempotency_key_reused, invalid_idempotency_key", async () => {
  const once = { idempotencyKey: "a key of mine".replaceAll(" ", "-") };
  await client.credits.allocate({ allocations: [{ modelId: FLASH, credits: 1 }] }, once);
  const other = client.credits.allocate({ allocations: [{ modelId: FLASH, credits: 2 }] }, once);
  expect(await refusal(other)).toMatchObject({ status: 422, code: "idempotency_key_reused" });
  const bad = client.credits.allocate(
    { allocations: [{ modelId: FLASH, credits: 1 }] },
    { idempotencyKey: "two words" },
  );
  expect(await refusal(bad)).toMatchObject({ status: 422, code: "invalid_idempotency_key" });
});

test("a key of the caller's own is one change", async () => {
  const once = { idempotencyKey: "chat-42" };
  const before = (await client.balance()).allocatedTokens[FLASH]!;
  for (let time = 0; time < 3; time++) {
    const { remainingTokens } = await client.tokens.consume({ modelId: FLASH, inputTokens: 7, outputTokens: 0 }, once);
    expect(remainingTokens).toBe(before - 7);
  }
});

test("rate_limited", async () => {
  const slow = await Service.start({ BILLING_RATE_LIMIT: "1" });
  const hurried = slow.client({ maxRetries: 0 });
  const all = await Promise.allSettled(Array.from({ length: 20 }, () => hurried.balance()));
  const refused = all.filter((one) => one.status === "rejected");
  expect(refused.length).toBeGreaterThan(0);
  expect(refused[0]!.reason).toMatchObject({ status: 429, code: "rate_limited", retryable: true });
  expect(refused[0]!.reason.retryAfterMs).toBeGreaterThan(0);
  // With tries, the call waits for its turn.
  expect(await slow.client().balance()).toMatchObject({ credits: 0 });
  await slow.stop();
});

test("login_unavailable", async () => {
  const keyless = await Service.start({
    BILLING_AUTH: "jwt",
    BILLING_JWKS_URL: "http://127.0.0.1:1/keys",
    BILLING_RECEIPTS: "off",
  });
  const header = Buffer.from(JSON.stringify({ alg: "RS256", kid: "1" })).toString("base64url");
  const [, claims, signature] = login("anybody").split(".");
  const asking = keyless.client({ token: `${header}.${claims}.${signature}`, maxRetries: 0 });
  expect(await refusal(asking.balance())).toMatchObject({ status: 503, code: "login_unavailable", retryable: true });
  await keyless.end();
});

test("database_unavailable, after which nobody knows, and the same key does", async () => {
  const locked = await Service.start();
  const owner = locked.client({ maxRetries: 0, timeoutMs: 30_000 });
  await owner.credits.add({ credits: 75, purchaseRecord: {} });
  const unlock = await locked.lock();
  const order = { allocations: [{ modelId: FLASH, credits: 75 }] };
  const error = await refusal(owner.credits.allocate(order));
  expect(error).toMatchObject({ status: 503, code: "database_unavailable", retryable: true, mayHaveHappened: true });
  expect(error.retryAfterMs).toBeGreaterThan(0);
  await unlock();
  await owner.credits.allocate(order, { idempotencyKey: error.idempotencyKey!, maxRetries: 2 });
  expect((await owner.balance()).credits).toBe(0);
  await locked.stop();
});

test("balance_overflow", async () => {
  const rich = await Service.start();
  const owner = rich.client({ maxRetries: 0 });
  await owner.credits.add({ credits: 1, purchaseRecord: {} });
  await rich.end();
  rich.sql("UPDATE credits SET credits = 9007199254740991");
  await rich.start();
  expect((await owner.balance()).credits).toBe(Number.MAX_SAFE_INTEGER);
  expect(await owner.credits.add({ credits: 1, purchaseRecord: {} })).toMatchObject({
    status: "later",
    finishTransaction: false,
    error: { code: "balance_overflow" },
  });
  await rich.end();
});

test("a path that the service has not", async () => {
  const strange = service.client({ baseUrl: `${service.url}/elsewhere` });
  const error = await refusal(strange.balance());
  expect(error).toMatchObject({ status: 404, code: null, detail: "Not Found" });
  expect(error.message).not.toBe("Not Found");
});

test("texts come in the user's language", async () => {
  const japanese = service.as("payer", { language: "ja" });
  await expect(japanese.credits.allocate({ allocations: [{ modelId: FLASH, credits: 5000 }] })).rejects.toThrow(
    /^クレジット不足: 必要=5000/,
  );
  await expect(service.client({ language: "ja" }).balance()).rejects.toThrow("もう一度ログインしてください");
});

test("hold_not_found, hold_closed, too_many_holds", async () => {
  const local = await Service.start({ BILLING_MAX_HOLDS: "1" });
  const holder = local.client();
  await holder.credits.add({ credits: 75, purchaseRecord: {} });
  await holder.credits.allocate({ allocations: [{ modelId: FLASH, credits: 75 }] });
  expect(await refusal(holder.holds.release("unknown"))).toMatchObject({ status: 404, code: "hold_not_found" });
  const { holdId } = await holder.holds.create({ modelId: FLASH, tokens: 10 });
  const second = await refusal(holder.holds.create({ modelId: FLASH, tokens: 10 }));
  expect(second).toMatchObject({ status: 400, code: "too_many_holds", fields: { limit: 1 } });
  await holder.holds.release(holdId);
  expect(await refusal(holder.holds.settle(holdId, { inputTokens: 1, outputTokens: 0 }))).toMatchObject({
    status: 409,
    code: "hold_closed",
    fields: { status: "released" },
  });
  await local.stop();
});

test("transaction_not_found, not_reversible", async () => {
  const local = await Service.start();
  const backend = local.client();
  await backend.credits.add({ credits: 75, purchaseRecord: {} });
  const missing = backend.tokens.reverse({ transactionId: 999, reason: "none" });
  expect(await refusal(missing)).toMatchObject({ status: 404, code: "transaction_not_found" });
  const { items } = await backend.transactions.list();
  const purchase = backend.tokens.reverse({ transactionId: items[0]!.id, reason: "none" });
  expect(await refusal(purchase)).toMatchObject({ status: 400, code: "not_reversible" });
  await local.stop();
});

test("forbidden", async () => {
  const reversed = client.tokens.reverse({ transactionId: 1, reason: "none" });
  expect(await refusal(reversed)).toMatchObject({ status: 403, code: "forbidden" });
  const other = service.as("payer", { user: "somebody else" });
  expect(await refusal(other.balance())).toMatchObject({ status: 403, code: "forbidden" });
});

test("return_too_small", async () => {
  const small = service.as("small");
  await small.credits.add({ credits: 1, purchaseRecord: {} });
  await small.credits.allocate({ allocations: [{ modelId: FLASH, credits: 1 }] });
  await small.tokens.consume({ modelId: FLASH, inputTokens: 1, outputTokens: 0 });
  expect(await refusal(small.credits.return({ modelId: FLASH }))).toMatchObject({ code: "return_too_small" });
});

test("account_frozen, with which a purchase goes on", async () => {
  const operator = "an operator's token of thirty-two bytes".replaceAll(/[ ']/g, "-");
  const local = await Service.start({ ...LOGINS, BILLING_OPERATOR_TOKEN: operator });
  const frozen = local.as("frozen");
  await frozen.credits.add({ credits: 75, purchaseRecord: { transactionId: "GPA.frozen.1" } });
  const answer = await fetch(`${local.url}/api/billing/operator/users/frozen/freeze`, {
    method: "POST",
    headers: { Authorization: `Bearer ${operator}`, "Content-Type": "application/json" },
    body: '{"reason":"a test"}',
  });
  expect(answer.status).toBe(200);
  const error = await refusal(frozen.credits.allocate({ allocations: [{ modelId: FLASH, credits: 75 }] }));
  expect(error).toMatchObject({ status: 403, code: "account_frozen", retryable: false });
  expect((await frozen.wallet()).frozen).toBe(true);
  const paid = await frozen.credits.add({ credits: 75, purchaseRecord: { transactionId: "GPA.frozen.2" } });
  expect(paid).toMatchObject({ status: "granted", newBalance: 150 });
  await local.stop();
});

const JAPANESE = /[ぁ-んァ-ヶ一-龠]/;

interface Refused {
  status: number;
  body: { detail: string; code: string };
}

/** Every coded refusal that the service's document has an example of. */
function documented(): Refused[] {
  const document = JSON.parse(readFileSync("../../tests/it/openapi.json", "utf8"));
  const all = new Map<string, Refused>();
  for (const path of Object.values<Record<string, object>>(document.paths)) {
    for (const { responses = {} } of Object.values<{ responses?: object }>(path)) {
      for (const [status, named] of Object.entries(responses)) {
        const answer = "$ref" in named ? document.components.responses[named.$ref.split("/").pop()] : named;
        const { example, examples = {} } = answer.content?.["application/json"] ?? {};
        for (const body of [example, ...Object.values<{ value: object }>(examples).map(({ value }) => value)]) {
          if (body?.code) all.set(body.code, { status: Number(status), body });
        }
      }
    }
  }
  return [...all.values()];
}

test.each(documented())("$body.code as the document has it", async ({ status, body }) => {
  const items = new Map<string, string>();
  const canned = new BillingClient({
    baseUrl: "http://service.example",
    language: "ja",
    maxRetries: 0,
    storage: {
      getItem: (name) => items.get(name),
      setItem: (name, value) => void items.set(name, value),
      removeItem: (name) => void items.delete(name),
    },
    fetch: async () => {
      const get = (name: string) => (name === "content-language" && JAPANESE.test(body.detail) ? "ja" : null);
      return { status, headers: { get }, text: async () => JSON.stringify(body) };
    },
  });
  const error = await canned.tokens.consume({ modelId: FLASH, inputTokens: 1, outputTokens: 1 }).catch((e) => e);
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toMatchObject({ status, code: body.code, detail: body.detail, retryable: status >= 429 });
  // The document's texts for people are Japanese, and its English ones, which are for programs, are not shown.
  expect(error.message).toMatch(JAPANESE);
  // What nobody did is done by nobody: only a try that may have been carried out is sent again at the next start.
  const undecided = ["deadline_exceeded", "database_unavailable"].includes(body.code);
  expect(error).toMatchObject({ mayHaveHappened: undecided, kept: undecided });
  const result = await canned.credits.add({ credits: 1, purchaseRecord: { transactionId: "GPA.400.409" } });
  const ends = { invalid_receipt: "invalid", purchase_already_processed: "already_granted" }[body.code];
  expect(result).toMatchObject({ status: ends ?? "later", finishTransaction: ends !== undefined });
});

test("every code of the document is one of these, or an operator's", () => {
  const { schemas } = JSON.parse(readFileSync("../../tests/it/openapi.json", "utf8")).components;
  const all = ["Code", "RefusalCode", "UnavailableCode"].flatMap((name) => schemas[name].enum as string[]);
  const seen = new Set(documented().map(({ body }) => body.code));
  expect(all.filter((code) => !seen.has(code)).sort()).toEqual(
    [
      // About the key, tried above.
      "idempotency_key_reused",
      "invalid_idempotency_key",
      // Of operators' calls, which this client does not make.
      "paid_balance_remains",
      "price_changed",
      "price_jump",
      "purchase_not_found",
      "purchase_state",
      "unknown_product",
      "user_not_found",
    ].sort(),
  );
});
