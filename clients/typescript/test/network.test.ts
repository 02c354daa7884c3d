// Bad networks: what is tried again, what is not, and that nothing happens twice.

import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AbortedError, BillingClient, ConnectionError, TimeoutError } from "../src/index.ts";
import { fetchAlone } from "./harness/fetch.ts";
import { BadNetwork, type Fate } from "./harness/network.ts";
import { LOGINS, login, Service } from "./harness/service.ts";

const FLASH = "gemini-2.0-flash";
let service: Service;
let proxy: BadNetwork;
beforeAll(async () => {
  service = await Service.start(LOGINS);
  proxy = await BadNetwork.before(() => service.port);
});
afterAll(async () => {
  await proxy.close();
  await service.stop();
});

/** The first connections have these fates, all others go well. */
function fates(...list: Fate[]): void {
  const left = [...list];
  proxy.fate = () => left.shift() ?? {};
}

async function customer(name: string, options = {}) {
  const client = service.as(name);
  await client.credits.add({ credits: 300, purchaseRecord: {} });
  await client.credits.allocate({ allocations: [{ modelId: FLASH, credits: 75 }] });
  return service.as(name, { baseUrl: proxy.url, fetch: fetchAlone, ...options });
}

async function amounts(name: string): Promise<number[]> {
  const all: number[] = [];
  for await (const { amount } of service.as(name).transactions.list()) all.push(amount);
  return all;
}

describe("a broken connection", () => {
  const breaks: [string, Fate][] = [
    ["refused", { refuse: true }],
    ["closed before the request is through", { cutRequestAt: 40 }],
    ["closed within the body", { cutRequestAt: 420 }],
    ["closed after the commit, before the answer", { cutAnswerAt: 0 }],
    ["reset after the commit, before the answer", { cutAnswerAt: 0, reset: true }],
    ["closed within the answer's headers", { cutAnswerAt: 30 }],
    ["closed within the answer's body", { cutAnswerAt: 345 }],
  ];
  test.each(breaks)("%s is tried again, and has one effect", async (how, fate) => {
    const name = how.replaceAll(" ", "-");
    const client = await customer(name);
    fates(fate, fate);
    const { remainingTokens } = await client.tokens.consume({ modelId: FLASH, inputTokens: 40, outputTokens: 2 });
    expect(remainingTokens).toBe(999_958);
    expect(await amounts(name)).toEqual([42, 75, 300]);
  });

  test("that doesn't mend is an error that says so", async () => {
    const client = await customer("unlucky");
    fates(...Array.from({ length: 3 }, () => ({ cutAnswerAt: 0 })));
    const error = await client.tokens.consume({ modelId: FLASH, inputTokens: 40, outputTokens: 2 }).catch((e) => e);
    expect(error).toBeInstanceOf(ConnectionError);
    expect(error).toMatchObject({ retryable: true, mayHaveHappened: true, kept: false });
    expect(error.message).toMatch(/^The server could not be reached/);
    // The caller can still have it once.
    const { idempotencyKey } = error;
    await client.tokens.consume({ modelId: FLASH, inputTokens: 40, outputTokens: 2 }, { idempotencyKey });
    expect(await amounts("unlucky")).toEqual([42, 75, 300]);
  });

  test("is no reason to buy twice when the button is pressed again", async () => {
    const client = await customer("impatient");
    fates(...Array.from({ length: 3 }, () => ({ cutAnswerAt: 0 })));
    const press = () => client.credits.allocate({ allocations: [{ modelId: FLASH, credits: 150 }] });
    await expect(press()).rejects.toThrow(ConnectionError);
    await press();
    expect(await amounts("impatient")).toEqual([150, 75, 300]);
    // What was answered is done: the next press is another one.
    await press().catch(() => {});
    expect((await service.as("impatient").balance()).credits).toBe(75);
  });

  test("is no reason to buy twice when the button is pressed again before it is known to be broken", async () => {
    const client = await customer("nervous");
    fates({ cutAnswerAt: 0 }, { cutAnswerAt: 0 });
    const order = { allocations: [{ modelId: FLASH, credits: 50 }] };
    const presses = [client.credits.allocate(order), client.credits.allocate(order)];
    expect(await Promise.all(presses)).toEqual([{ success: true }, { success: true }]);
    expect(await amounts("nervous")).toEqual([50, 75, 300]);
    // Keys of the caller's own say that they are two.
    const own = ["one", "other"].map((idempotencyKey) => client.credits.allocate(order, { idempotencyKey }));
    await Promise.all(own);
    expect(await amounts("nervous")).toEqual([50, 50, 50, 75, 300]);
  });

  test("is no reason to fail a question", async () => {
    const client = await customer("asker");
    fates({ cutAnswerAt: 0 }, { refuse: true });
    expect((await client.balance()).credits).toBe(225);
    fates({ cutAnswerAt: 0 });
    const error = await client.balance({ maxRetries: 0 }).catch((e) => e);
    expect(error).toMatchObject({ mayHaveHappened: false, kept: false });
  });
});

test("a slow body is waited for, until the time is over", async () => {
  const client = await customer("patient");
  fates({ dribbleMs: 1 });
  expect((await client.balance()).credits).toBe(225);
  fates({ dribbleMs: 200 }, { dribbleMs: 200 });
  const error = await client.balance({ timeoutMs: 300 }).catch((e) => e);
  expect(error).toBeInstanceOf(TimeoutError);
});

test("no answer at all ends in time, without an AbortController too", async () => {
  const client = await customer("waiting");
  fates({ hang: true }, { hang: true });
  await expect(client.balance({ timeoutMs: 50 })).rejects.toThrow(TimeoutError);
  const { AbortController } = globalThis;
  try {
    Object.assign(globalThis, { AbortController: undefined });
    await expect(client.balance({ timeoutMs: 50 })).rejects.toThrow(TimeoutError);
  } finally {
    Object.assign(globalThis, { AbortController });
  }
});

test("a caller that gives up is let go", async () => {
  const client = await customer("leaving");
  fates({ hang: true });
  const controller = new AbortController();
  const call = client.balance({ signal: controller.signal });
  controller.abort();
  await expect(call).rejects.toThrow(AbortedError);
  await expect(client.balance({ signal: controller.signal })).rejects.toThrow("cancelled");
});

test("a service that restarts in between", async () => {
  const client = await customer("steady");
  fates();
  await service.end("SIGKILL");
  const call = client.tokens.consume({ modelId: FLASH, inputTokens: 1, outputTokens: 1 }, { maxRetries: 9 });
  await service.start();
  expect((await call).remainingTokens).toBe(999_998);
  expect(await amounts("steady")).toEqual([2, 75, 300]);
});

test("a token that can't be had sends nothing", async () => {
  const client = service.client({
    token: () => Promise.reject(new Error("no login")),
    maxRetries: 0,
  });
  const error = await client.tokens.consume({ modelId: FLASH, inputTokens: 1, outputTokens: 1 }).catch((e) => e);
  expect(error).toBeInstanceOf(ConnectionError);
  expect(error).toMatchObject({ mayHaveHappened: false, kept: false });
});

test("a login that is never told counts as time of the call, and can be given up", async () => {
  const client = service.client({ token: () => new Promise(() => {}), timeoutMs: 1e9 });
  const order = { allocations: [{ modelId: FLASH, credits: 1 }] };
  await expect(client.credits.allocate(order, { timeoutMs: 50 })).rejects.toThrow(TimeoutError);
  await expect(client.wallet({ timeoutMs: 50 })).rejects.toThrow(TimeoutError);
  const controller = new AbortController();
  const call = client.credits.allocate(order, { signal: controller.signal });
  controller.abort();
  await expect(call).rejects.toThrow(AbortedError);
});

describe("what something on the way answers", () => {
  /** A client whose first answers are made up, and the keys that it sent. */
  async function behind(name: string, ...answers: RequestListener[]) {
    const keys: (string | undefined)[] = [];
    const times: number[] = [];
    const left = [...answers];
    const front = createServer(async (request, response) => {
      keys.push(request.headers["idempotency-key"] as string | undefined);
      times.push(Date.now());
      const made = left.shift();
      if (made !== undefined) return made(request.resume(), response);
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const { host: _, connection: __, "transfer-encoding": ___, "content-length": ____, ...headers } = request.headers;
      const answer = await fetch(`${service.url}${request.url}`, {
        method: request.method,
        headers: headers as Record<string, string>,
        ...(chunks.length > 0 ? { body: Buffer.concat(chunks) } : {}),
      });
      response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text());
    });
    front.listen(0, "127.0.0.1");
    await once(front, "listening");
    const baseUrl = `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
    const client = new BillingClient({ baseUrl, token: login(name), language: "en" });
    const close = () => {
      front.close();
      front.closeAllConnections();
    };
    return { client, keys, times, close };
  }
  const busy =
    (seconds: string): RequestListener =>
    (_, response) =>
      void response
        .writeHead(503, { "retry-after": seconds, "content-type": "application/json" })
        .end('{"detail":"busy","code":"overloaded"}');

  test("503 is tried again after Retry-After, under the same key", async () => {
    const { client, keys, times, close } = await behind("busy", busy("1"), busy("1"));
    await client.credits.add({ credits: 300, purchaseRecord: {} });
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toMatch(/^[\x21-\x7e]{20,255}$/);
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(1000);
    expect(times[2]! - times[1]!).toBeGreaterThanOrEqual(1000);
    expect(await amounts("busy")).toEqual([300]);
    close();
  });

  test("a Retry-After beyond the time of the call is told at once", async () => {
    const { client, keys, close } = await behind("later", busy("3600"));
    const error = await client.balance().catch((e) => e);
    expect(error).toMatchObject({ status: 503, code: "overloaded", retryAfterMs: 3_600_000 });
    expect(keys.length).toBe(1);
    close();
  });

  test("a date as Retry-After", async () => {
    const date = new Date(Date.now() + 3_600_000).toUTCString();
    const { client, close } = await behind("dated", busy(date));
    const error = await client.balance().catch((e) => e);
    expect(error.retryAfterMs).toBeGreaterThan(3_500_000);
    close();
  });

  test("a gateway's page is tried again", async () => {
    const page: RequestListener = (_, response) => void response.writeHead(502).end("<html>Bad Gateway</html>");
    const portal: RequestListener = (_, response) => void response.writeHead(200).end("<html>Log in to Wi-Fi</html>");
    const { client, close } = await behind("gateway", page, portal);
    await client.credits.add({ credits: 300, purchaseRecord: {} });
    expect(await amounts("gateway")).toEqual([300]);
    close();
  });

  test.each(["{}", "null", '{"success":true}', '{"status":"ok"}'])(
    "a portal's 200 that says %s is no change",
    async (said) => {
      const portal: RequestListener = (_, response) => void response.writeHead(200).end(said);
      const name = `portal-${said.length}`;
      const { client, close } = await behind(name, portal, portal, portal);
      const purchase = { credits: 300, purchaseRecord: { transactionId: `GPA.${name}` } };
      expect(await client.credits.add(purchase)).toMatchObject({ status: "later", finishTransaction: false });
      expect(await amounts(name)).toEqual([]);
      expect(await client.credits.add(purchase)).toMatchObject({ status: "granted", newBalance: 300 });
      close();
    },
  );

  test.each([400, 403, 404, 409])("an empty %i never ends a purchase", async (status) => {
    const empty: RequestListener = (_, response) => void response.writeHead(status).end();
    const { client, close } = await behind(`empty-${status}`, empty);
    const result = await client.credits.add({ credits: 300, purchaseRecord: { transactionId: `GPA.${status}` } });
    expect(result).toMatchObject({ status: "later", finishTransaction: false });
    close();
  });

  test("a message without words is still a sentence", async () => {
    const wordless: RequestListener = (_, response) => void response.writeHead(500).end('{"detail":{"odd":[1]}}');
    const { client, close } = await behind("odd", wordless, wordless, wordless);
    await expect(client.balance()).rejects.toThrow("Something went wrong, please try again in a moment");
    close();
  });
});
