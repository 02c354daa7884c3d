// The app's class: every method gives what its type promises, and old purchase code does the right thing.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  BillingApiService,
  getBillingApiService,
  initBillingApiService,
  isBillingApiServiceInitialized,
} from "../src/compat.ts";
import { Google, type Sold } from "./harness/google.ts";
import { LOGINS, login, Service } from "./harness/service.ts";

const FLASH = "gemini-2.0-flash";
let google: Google;
let service: Service;
let user = "";
beforeAll(async () => {
  google = await Google.open();
  service = await Service.start({ ...LOGINS, ...google.settings() });
});
afterAll(async () => {
  await service.stop();
  await google.close();
});
beforeEach(({ task }) => {
  user = task.name;
  google.isDown = false;
});

const app = (of = user) => new BillingApiService(service.url, { token: login(of) });

function record(name: string, sold: Partial<Sold> = {}) {
  const purchaseToken = google.sell(name, { product: "noteapp.credits.small", state: "PURCHASED", ...sold });
  return {
    productId: "noteapp.credits.small",
    purchaseToken,
    transactionId: purchaseToken,
    purchaseDate: "2026-11-28T09:00:00Z",
    amount: 300,
    creditsAdded: 300,
  };
}

test("every method fills what its type promises", async () => {
  const billing = app();
  expect(await billing.addCredits(300, record("methods"))).toBeUndefined();
  expect(await billing.allocateCredits([{ modelId: FLASH, credits: 150 }])).toBeUndefined();
  expect(await billing.getBalance()).toEqual({ credits: 150, allocatedTokens: { [FLASH]: 2_000_000 } });
  expect(await billing.consumeTokens(FLASH, 5000, 2000)).toEqual({ success: true, remainingTokens: 1_993_000 });
  expect(await billing.getCategoryBalance("quick")).toBe(1_993_000);
  expect((await billing.getPricing()).pricing[FLASH]).toEqual({ pricePerMToken: 75, category: "quick" });
  const lines = await billing.getTransactions();
  expect(lines[0]).toEqual({
    id: expect.any(Number),
    type: "consumption",
    amount: 7000,
    modelId: FLASH,
    createdAt: expect.stringMatching(/^\d{4}-/),
  });
  expect(lines[2]).not.toHaveProperty("modelId");
  expect(await billing.getTransactions(1)).toHaveLength(1);
  await expect(billing.resetAllData()).rejects.toMatchObject({ status: 403 });
});

test("a model that the app has never heard of counts, one that is sold no more does not, and neither throws", async () => {
  const billing = app();
  service.sql(`INSERT INTO token_pricing (model_id, price_per_m_token, exchange_rate, margin_percent, category, updated_at)
    SELECT 'brand-new', 75, exchange_rate, margin_percent, 'quick', updated_at FROM token_pricing LIMIT 1`);
  await billing.addCredits(300, record("stranger-models"));
  await billing.allocateCredits([
    { modelId: "brand-new", credits: 75 },
    { modelId: FLASH, credits: 75 },
  ]);
  expect(await billing.getCategoryBalance("quick")).toBe(2_000_000);
  service.sql("DELETE FROM token_pricing WHERE model_id = 'brand-new'");
  expect(await billing.getCategoryBalance("quick")).toBe(1_000_000);
  expect((await billing.getBalance()).allocatedTokens["brand-new"]).toBe(1_000_000);
});

test("an error is a sentence for the user", async () => {
  await expect(app().allocateCredits([{ modelId: FLASH, credits: 0 }])).rejects.toThrow("入力内容を確認してください");
  await expect(app().allocateCredits([{ modelId: FLASH, credits: 5 }])).rejects.toThrow(
    "クレジット不足: 必要=5, 残高=0",
  );
});

describe("the app's purchase code", () => {
  /** What the app's restore flow does with an error: by its status, and by words in its text. */
  function finishes(error: { status?: number; message: string }): boolean {
    const words = ["409", "already processed", "400", "Invalid receipt"];
    return error.status === 409 || error.status === 400 || words.some((word) => error.message.includes(word));
  }

  test("finishes what somebody has the credits of", async () => {
    const sold = record("twice");
    await app().addCredits(300, sold);
    await app().addCredits(300, sold);
    await app("a stranger").addCredits(300, sold);
  });

  test("finishes what can never become valid", async () => {
    const error = await app()
      .addCredits(300, record("never", { state: "CANCELLED" }))
      .catch((e) => e);
    expect(error).toMatchObject({ finishTransaction: true, name: "PurchaseError" });
    expect(finishes(error)).toBe(true);
  });

  test.each([
    ["pending", { state: "PENDING" }],
    ["of an unknown product", { product: "p.400.409" }],
    ["a tester's", { test: true }],
  ] as [string, Partial<Sold>][])("leaves open what is %s", async (name, sold) => {
    const error = await app()
      .addCredits(300, record(name.replaceAll(" ", "-").replace("'", ""), sold))
      .catch((e) => e);
    expect(error).toMatchObject({ finishTransaction: false });
    expect(finishes(error)).toBe(false);
  });

  test("leaves open what can't be asked, or is malformed", async () => {
    google.isDown = true;
    const down = await app()
      .addCredits(300, record("down"))
      .catch((e) => e);
    const nowhere = await new BillingApiService("http://127.0.0.1:400", { maxRetries: 0 })
      .addCredits(300, record("nowhere"))
      .catch((e) => e);
    const malformed = await app()
      .addCredits(-400, record("malformed"))
      .catch((e) => e);
    for (const error of [down, nowhere, malformed]) {
      expect(error).toMatchObject({ finishTransaction: false });
      expect(finishes(error)).toBe(false);
    }
  });
});

test("the app's one service", async () => {
  expect(isBillingApiServiceInitialized()).toBe(false);
  expect(() => getBillingApiService()).toThrow("not initialized");
  initBillingApiService(service.url, { token: () => login(user) });
  const first = getBillingApiService();
  initBillingApiService("http://elsewhere.example");
  expect(getBillingApiService()).toBe(first);
  expect(isBillingApiServiceInitialized()).toBe(true);
  expect(await first.getBalance()).toEqual({ credits: 0, allocatedTokens: {} });
});
