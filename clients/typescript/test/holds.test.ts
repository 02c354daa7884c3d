// Chats on a hold: reserved before, settled after, whatever happens in between.

import { expect, test } from "vitest";
import { BillingClient, type RunningHold } from "../src/index.ts";
import { fetchAlone } from "./harness/fetch.ts";
import { BadNetwork } from "./harness/network.ts";
import { Phone } from "./harness/phone.ts";
import { Service } from "./harness/service.ts";

const FLASH = "gemini-2.0-flash";

async function withTokens(run: (client: BillingClient, service: Service) => Promise<void>): Promise<void> {
  const service = await Service.start();
  const client = service.client();
  await client.credits.add({ credits: 75, purchaseRecord: {} });
  await client.credits.allocate({ allocations: [{ modelId: FLASH, credits: 75 }] });
  await run(client, service);
  expect(await client.holds.list()).toEqual([]);
  await service.stop();
}

test("a hold by hand", () =>
  withTokens(async (client) => {
    const hold = await client.holds.create({ modelId: FLASH, tokens: 5000, ttlSeconds: 60 });
    expect(hold).toEqual({
      holdId: expect.any(String),
      status: "held",
      modelId: FLASH,
      heldTokens: 5000,
      availableTokens: 995_000,
      expiresAt: expect.any(String),
    });
    expect(await client.holds.list()).toEqual([hold]);
    expect(await client.holds.get(hold.holdId)).toEqual(hold);
    const settled = await client.holds.settle(hold.holdId, { inputTokens: 1000, outputTokens: 200 });
    expect(settled).toEqual({
      holdId: hold.holdId,
      status: "settled",
      consumedTokens: 1200,
      releasedTokens: 3800,
      shortfallTokens: 0,
      remainingTokens: 998_800,
      transactionId: expect.any(Number),
    });
    const most = await client.holds.create({ modelId: FLASH, tokens: 2_000_000, minTokens: 10 });
    expect(most.heldTokens).toBe(998_800);
    expect(await client.holds.release(most.holdId)).toMatchObject({ status: "released", releasedTokens: 998_800 });
  }));

test("a chat that ends well is settled by what it used", () =>
  withTokens(async (client) => {
    let open = 0;
    const done = await client.withHold(FLASH, { tokens: 5000 }, async (hold) => {
      expect(hold.heldTokens).toBe(5000);
      open = (await client.holds.list()).length;
      return { inputTokens: 1000, outputTokens: 200, text: "Hello" };
    });
    expect(open).toBe(1);
    expect(done).toMatchObject({ consumedTokens: 1200, usage: { text: "Hello" } });
  }));

test("a stream that is cut settles what was counted", () =>
  withTokens(async (client) => {
    const chat = client.withHold(FLASH, { tokens: 5000 }, async (hold) => {
      hold.used({ inputTokens: 1000 });
      hold.used({ outputTokens: 50 });
      throw new Error("the stream broke");
    });
    await expect(chat).rejects.toThrow("the stream broke");
    expect((await client.balance()).allocatedTokens[FLASH]).toBe(998_950);
  }));

test("a chat that fails at once costs nothing", () =>
  withTokens(async (client) => {
    const chat = client.withHold(FLASH, { tokens: 5000 }, () => Promise.reject(new Error("no model")));
    await expect(chat).rejects.toThrow("no model");
    expect((await client.balance()).allocatedTokens[FLASH]).toBe(1_000_000);
  }));

test("a settlement without an answer is sent at the next start", () =>
  withTokens(async (client, service) => {
    const proxy = await BadNetwork.before(() => service.port);
    const phone = new Phone();
    const start = () => new BillingClient({ baseUrl: proxy.url, ...phone.start(fetchAlone), maxRetries: 0 });
    const chat = start().withHold(FLASH, { tokens: 5000 }, async () => {
      proxy.fate = () => ({ cutAnswerAt: 0 });
      return { inputTokens: 30, outputTokens: 12 };
    });
    await expect(chat).rejects.toMatchObject({ kept: true });
    phone.kill();
    proxy.fate = () => ({});
    await start().resume();
    const { items } = await client.transactions.list({ type: "consumption" });
    expect(items.map(({ amount }) => amount)).toEqual([42]);
    await proxy.close();
  }));

/** A client whose service knows holds, as it is written down: what `withHold` itself does, on any service. */
function recorded() {
  const asked: [string, unknown][] = [];
  const client = new BillingClient({
    baseUrl: "http://service.example",
    fetch: async (url, { body }) => {
      asked.push([url.replace(/.*\/api\/billing/, ""), body === undefined ? undefined : JSON.parse(body)]);
      const answer = url.endsWith("/holds") ? { held_tokens: 5 } : { consumed_tokens: 5 };
      return {
        status: 200,
        headers: { get: () => null },
        text: async () => JSON.stringify({ hold_id: "h/1", ...answer }),
      };
    },
  });
  return { client, asked };
}

test.each<[string, (hold: RunningHold) => Promise<{ inputTokens: number; outputTokens: number }>, (string | number)[]]>(
  [
    ["settles what it used", async () => ({ inputTokens: 2, outputTokens: 3, text: "" }), ["settle", 2, 3]],
    ["settles what was counted", async (hold) => cut(() => hold.used({ outputTokens: 3 })), ["settle", 0, 3]],
    ["releases what nothing was counted of", async () => cut(), ["release"]],
  ],
)("a chat %s", async (_, work, [end, input_tokens, output_tokens]) => {
  const { client, asked } = recorded();
  await client.withHold(FLASH, { tokens: 5, minTokens: 1 }, work).catch(() => {});
  expect(asked).toEqual([
    ["/holds", { model_id: FLASH, tokens: 5, min_tokens: 1 }],
    [`/holds/h%2F1/${end}`, end === "release" ? {} : { input_tokens, output_tokens }],
  ]);
});

async function cut(before = () => {}): Promise<never> {
  before();
  throw new Error("cut");
}
