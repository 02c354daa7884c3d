// Every call of the client, with what the service answers.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LOGINS, Service } from "./harness/service.ts";

let service: Service;
beforeAll(async () => {
  service = await Service.start(LOGINS);
});
afterAll(() => service.stop());

const FLASH = "gemini-2.0-flash";

/** A client of somebody with 300 credits and a million tokens. */
async function customer(name: string) {
  const client = service.as(name);
  await client.credits.add({ credits: 375, purchaseRecord: { transactionId: `GPA.${name}` } });
  await client.credits.allocate({ allocations: [{ modelId: FLASH, credits: 75 }] });
  return client;
}

test("buying, allocating, consuming and looking", async () => {
  const client = service.as("walker");
  const record = { productId: "noteapp.credits.small", transactionId: "GPA.walker", purchaseToken: "walker-token" };
  const bought = await client.credits.add({ credits: 300, purchaseRecord: record });
  expect(bought).toEqual({ status: "granted", finishTransaction: true, newBalance: 300 });
  const again = await client.credits.add({ credits: 300, purchaseRecord: record });
  expect(again).toEqual({ status: "already_granted", finishTransaction: true, newBalance: 300 });
  expect(await client.credits.allocate({ allocations: [{ modelId: FLASH, credits: 150 }] })).toEqual({ success: true });
  expect(await client.balance()).toEqual({ credits: 150, allocatedTokens: { [FLASH]: 2_000_000 } });
  expect(await client.categoryTotal("quick")).toEqual({ category: "quick", totalTokens: 2_000_000 });
  const consumed = await client.tokens.consume({ modelId: FLASH, inputTokens: 5000, outputTokens: 2000 });
  expect(consumed).toMatchObject({ success: true, remainingTokens: 1_993_000 });
  const { items, nextBefore } = await client.transactions.list();
  expect(nextBefore).toBeNull();
  expect(items).toEqual([
    { id: expect.any(Number), type: "consumption", amount: 7000, modelId: FLASH, createdAt: expect.any(String) },
    { id: expect.any(Number), type: "allocation", amount: 150, modelId: FLASH, createdAt: expect.any(String) },
    { id: expect.any(Number), type: "purchase", amount: 300, modelId: null, createdAt: expect.any(String) },
  ]);
});

test("prices, products, quotes and health", async () => {
  const client = await customer("looker");
  expect(await client.pricing()).toMatchObject({ [FLASH]: { pricePerMToken: 75, category: "quick" } });
  expect(await client.products()).toMatchObject({ "noteapp.credits.small": { credits: 300 } });
  expect(await client.health()).toEqual({ status: "ok", service: "billing" });
  expect(await client.quote({ modelId: FLASH, credits: 150 })).toEqual({
    modelId: FLASH,
    category: "quick",
    pricePerMToken: 75,
    credits: 150,
    tokens: 2_000_000,
    availableCredits: 300,
    categoryTokens: 1_000_000,
    limitTokens: 5_000_000,
    freeTokens: 4_000_000,
    maxCredits: 300,
    maxTokens: 4_000_000,
    limitedBy: null,
  });
  expect(await client.quote({ modelId: FLASH, tokens: 1_000_000 })).toMatchObject({ credits: 75 });
  expect(await client.quote({ modelId: FLASH, credits: 1000 })).toMatchObject({ limitedBy: "credits" });
});

test("names that are data stay as they are", async () => {
  const client = await customer("namer");
  for (const model of ["my_own_model", "__proto__", "tokens"]) {
    service.sql(`INSERT INTO token_pricing (model_id, price_per_m_token, exchange_rate, margin_percent, category, updated_at)
      SELECT '${model}', 75, exchange_rate, margin_percent, 'quick', updated_at FROM token_pricing LIMIT 1`);
    await client.credits.allocate({ allocations: [{ modelId: model, credits: 75 }] });
  }
  const { allocatedTokens } = await client.balance();
  expect(Object.entries(allocatedTokens).sort()).toEqual([
    ["__proto__", 1_000_000],
    [FLASH, 1_000_000],
    ["my_own_model", 1_000_000],
    ["tokens", 1_000_000],
  ]);
  expect((await client.pricing()).my_own_model).toEqual({ pricePerMToken: 75, category: "quick" });
});

describe("the history", () => {
  test("comes page by page, or as a whole", async () => {
    const client = await customer("reader");
    for (let tokens = 1; tokens <= 7; tokens++) {
      await client.tokens.consume({ modelId: FLASH, inputTokens: tokens, outputTokens: 0 });
    }
    const first = await client.transactions.list({ limit: 3 });
    expect(first.items.map(({ amount }) => amount)).toEqual([7, 6, 5]);
    expect(first.nextBefore).toBe(first.items[2]!.id);
    const second = await client.transactions.list({ limit: 3, before: first.nextBefore! });
    expect(second.items.map(({ amount }) => amount)).toEqual([4, 3, 2]);
    for (const limit of [1, 3, 9, 100]) {
      const all: number[] = [];
      for await (const { amount } of client.transactions.list({ limit })) all.push(amount);
      expect(all).toEqual([7, 6, 5, 4, 3, 2, 1, 75, 375]);
    }
    const allocations: string[] = [];
    for await (const { type } of client.transactions.list({ type: "allocation", modelId: FLASH }))
      allocations.push(type);
    expect(allocations).toEqual(["allocation"]);
  });

  test("is whole where the Link header is lost", async () => {
    await customer("linkless");
    const client = service.as("linkless", {
      fetch: async (url, init) => {
        const response = await fetch(url, init);
        const get = (name: string) => (name === "link" ? null : response.headers.get(name));
        return { status: response.status, headers: { get }, text: () => response.text() };
      },
    });
    const all: number[] = [];
    for await (const { amount } of client.transactions.list({ limit: 1 })) all.push(amount);
    expect(all).toEqual([75, 375]);
  });

  test("of nobody is empty", async () => {
    const client = service.as("newcomer");
    expect(await client.transactions.list()).toEqual({ items: [], nextBefore: null });
    for await (const line of client.transactions.list()) expect(line).toBeUndefined();
  });
});

test("a listener hears of every change, and of nothing else", async () => {
  const client = await customer("listener");
  let heard = 0;
  const end = client.onChange(() => {
    heard += 1;
  });
  await client.tokens.consume({ modelId: FLASH, inputTokens: 1, outputTokens: 1 });
  await client.balance();
  await client.tokens.consume({ modelId: "unknown", inputTokens: 1, outputTokens: 1 }).catch(() => {});
  expect(heard).toBe(1);
  end();
  await client.tokens.consume({ modelId: FLASH, inputTokens: 1, outputTokens: 1 });
  expect(heard).toBe(1);
});

test("a reset, where it is allowed", async () => {
  const lenient = await Service.start({ BILLING_ALLOW_RESET: "true" });
  const client = lenient.client();
  await client.credits.add({ credits: 300, purchaseRecord: {} });
  expect(await client.reset()).toMatchObject({ success: true });
  expect((await client.balance()).credits).toBe(0);
  await lenient.stop();
});

test("the wallet, read again only when it changed", async () => {
  const client = await customer("owner");
  const wallet = await client.wallet();
  expect(wallet).toEqual({
    credits: { total: 300, bonus: 0 },
    tokens: { [FLASH]: { allocated: 1_000_000, held: 0, available: 1_000_000 } },
    categories: {
      quick: { totalTokens: 1_000_000, limitTokens: 5_000_000, freeTokens: 4_000_000 },
      think: { totalTokens: 0, limitTokens: 1_000_000, freeTokens: 1_000_000 },
    },
    frozen: false,
  });
  expect(await client.wallet()).toBe(wallet);
  await client.tokens.consume({ modelId: FLASH, inputTokens: 1, outputTokens: 1 });
  expect((await client.wallet()).tokens[FLASH]?.allocated).toBe(999_998);
});

test("the ledger", async () => {
  const client = await customer("auditor");
  const types: string[] = [];
  for await (const { type } of client.ledger.list({ limit: 1 })) types.push(type);
  expect(types).toEqual(["allocation", "purchase"]);
  const { items } = await client.ledger.list({ type: "allocation" });
  expect(items[0]).toMatchObject({
    amount: 75,
    creditsDelta: -75,
    bonusDelta: 0,
    tokensDelta: 1_000_000,
    modelId: FLASH,
    pricePerMToken: 75,
    inputTokens: null,
    actor: null,
  });
});

test("what was used", async () => {
  const client = await customer("user");
  await client.tokens.consume({ modelId: FLASH, inputTokens: 30, outputTokens: 12 });
  const day = new Date().toISOString().slice(0, 10);
  const usage = await client.usage({ from: day, to: day, by: "model" });
  expect(usage.items).toEqual([
    {
      modelId: FLASH,
      requests: 1,
      inputTokens: 30,
      outputTokens: 12,
      totalTokens: 42,
      reversedTokens: 0,
      costCreditsMicro: 42 * 75,
    },
  ]);
  expect(usage.totals).toMatchObject({ totalTokens: 42 });
});

test("a consumption that comes back", async () => {
  const local = await Service.start();
  const client = local.client();
  await client.credits.add({ credits: 75, purchaseRecord: {} });
  await client.credits.allocate({ allocations: [{ modelId: FLASH, credits: 75 }] });
  const { transactionId } = await client.tokens.consume({ modelId: FLASH, inputTokens: 40, outputTokens: 2 });
  expect(transactionId).toBeGreaterThan(0);
  const reversed = await client.tokens.reverse({ transactionId: transactionId!, tokens: 12, reason: "it failed" });
  expect(reversed).toEqual({
    success: true,
    reversedTokens: 12,
    reversibleTokens: 30,
    remainingTokens: 999_970,
  });
  await expect(
    client.tokens.reverse({ transactionId: transactionId!, tokens: 31, reason: "it failed" }),
  ).rejects.toMatchObject({ status: 409, code: "already_reversed", fields: { reversibleTokens: 30 } });
  await local.stop();
});

test("unused tokens that become credits again", async () => {
  const client = await customer("changer");
  expect(await client.credits.return({ modelId: FLASH })).toEqual({
    success: true,
    returnedTokens: 1_000_000,
    returnedCredits: 75,
    credits: 375,
    remainingTokens: 0,
  });
  await expect(client.credits.return({ modelId: FLASH })).rejects.toMatchObject({ code: "insufficient_tokens" });
});

test("a consent", async () => {
  const client = service.as("consenting");
  expect(await client.consent({ appleConsumption: true })).toEqual({ success: true });
});

test("a backend acts for a user", async () => {
  const local = await Service.start();
  for (const user of ["アリス", "50%", "bob smith"]) {
    const client = local.client({ user });
    await client.credits.add({ credits: 10, purchaseRecord: {} });
    expect((await client.balance()).credits).toBe(10);
  }
  expect((await local.client().balance()).credits).toBe(0);
  await local.stop();
});
