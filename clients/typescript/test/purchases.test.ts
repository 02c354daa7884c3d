// Purchases that a store confirms: what the app is told, and when it may finish the store's transaction.

import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { BillingClient } from "../src/index.ts";
import { fetchAlone } from "./harness/fetch.ts";
import { Google, type Sold } from "./harness/google.ts";
import { BadNetwork } from "./harness/network.ts";
import { Phone } from "./harness/phone.ts";
import { LOGINS, Service } from "./harness/service.ts";

let google: Google;
let service: Service;
let proxy: BadNetwork;
beforeAll(async () => {
  google = await Google.open();
  service = await Service.start({ ...LOGINS, ...google.settings() });
  proxy = await BadNetwork.before(() => service.port);
});
afterAll(async () => {
  await proxy.close();
  await service.stop();
  await google.close();
});
beforeEach(() => {
  proxy.fate = () => ({});
  google.isDown = false;
});

const SMALL = "noteapp.credits.small";

function purchase(purchaseToken: string) {
  return { credits: 300, purchaseRecord: { productId: SMALL, transactionId: purchaseToken, purchaseToken } };
}

function sell(name: string, sold: Partial<Sold> = {}) {
  return purchase(google.sell(name, { product: SMALL, state: "PURCHASED", ...sold }));
}

async function credits(client: BillingClient): Promise<number> {
  return (await client.balance()).credits;
}

test("granted, granted already, somebody else's", async () => {
  const client = service.as("first");
  const sold = sell("first");
  expect(await client.credits.add(sold)).toEqual({ status: "granted", finishTransaction: true, newBalance: 300 });
  const again = await client.credits.add(sold);
  expect(again).toEqual({ status: "already_granted", finishTransaction: true, newBalance: 300 });
  const other = await service.as("second").credits.add(sold);
  expect(other).toEqual({ status: "already_granted", finishTransaction: true, newBalance: null });
});

test("invalid", async () => {
  const result = await service.as("cheat").credits.add(sell("cancelled", { state: "CANCELLED" }));
  expect(result).toMatchObject({
    status: "invalid",
    finishTransaction: true,
    error: { status: 400, code: "invalid_receipt", message: "The purchase could not be confirmed" },
  });
});

test.each([
  ["purchase_pending", { state: "PENDING" }],
  ["purchase_in_review", { product: "unknown.product" }],
  ["sandbox_refused", { test: true }],
] as [string, Partial<Sold>][])("%s stays open", async (code, sold) => {
  const result = await service.as(code).credits.add(sell(code, sold));
  expect(result).toMatchObject({ status: "later", finishTransaction: false, retryAfterMs: 3_600_000, error: { code } });
});

test("store_not_configured and store_unavailable stay open", async () => {
  const apple = await service.as("apple").credits.add(purchase("2000000123456789"));
  expect(apple).toMatchObject({ status: "later", finishTransaction: false, error: { code: "store_not_configured" } });
  google.isDown = true;
  const away = await service.as("away").credits.add(sell("away"));
  expect(away).toMatchObject({ status: "later", finishTransaction: false, error: { code: "store_unavailable" } });
});

test("a malformed purchase stays open", async () => {
  const result = await service.as("odd").credits.add(purchase("short"));
  expect(result).toMatchObject({ status: "later", finishTransaction: false, error: { status: 422 } });
  const nobody = await service.client().credits.add(purchase("short"));
  expect(nobody).toMatchObject({ status: "later", finishTransaction: false, error: { status: 401 } });
});

test("through an outage, a pending payment and two restarts to one grant", async () => {
  const phone = new Phone();
  const start = () => service.as("traveller", { baseUrl: proxy.url, ...phone.start(fetchAlone), maxRetries: 0 });
  const sold = sell("traveller", { state: "PENDING" });

  proxy.fate = () => ({ refuse: true });
  const offline = await start().credits.add(sold);
  expect(offline).toMatchObject({ status: "later", finishTransaction: false, kept: true });
  phone.kill();

  proxy.fate = () => ({});
  google.isDown = true;
  const [outage] = await start().resume();
  expect(outage).toMatchObject({ kept: true, error: { code: "store_unavailable" } });
  phone.kill();

  google.isDown = false;
  const unpaid = await start().credits.add(sold);
  expect(unpaid).toMatchObject({ status: "later", finishTransaction: false, kept: true });
  phone.kill();

  sell("traveller");
  // The store has given it an order id by now: still the same purchase.
  const named = { ...sold, purchaseRecord: { ...sold.purchaseRecord, transactionId: "GPA.3301-traveller" } };
  const app = start();
  await app.resume();
  expect(await app.credits.add(named)).toMatchObject({ finishTransaction: true, newBalance: 300 });
  expect(phone.kept).toBe(0);
  expect(await credits(app)).toBe(300);
});

test("an answer that got lost is granted once, and is no surprise", async () => {
  const client = service.as("lossy", { baseUrl: proxy.url, fetch: fetchAlone });
  const left = [{ cutAnswerAt: 0 }, { cutAnswerAt: 0 }];
  proxy.fate = () => left.shift() ?? {};
  expect(await client.credits.add(sell("lossy"))).toEqual({
    status: "granted",
    finishTransaction: true,
    newBalance: 300,
  });
  expect(await credits(client)).toBe(300);
});
