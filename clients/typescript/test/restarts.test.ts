// Apps that are killed between a request and its answer, and started again with the same storage.

import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type BillingClient, ConnectionError } from "../src/index.ts";
import { fetchAlone } from "./harness/fetch.ts";
import { BadNetwork, type Fate } from "./harness/network.ts";
import { Phone } from "./harness/phone.ts";
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

let phone: Phone;
let user = "";
beforeEach(async ({ task }) => {
  phone = new Phone();
  user = task.name;
  proxy.fate = () => ({});
  const client = service.as(user);
  await client.credits.add({ credits: 300, purchaseRecord: {} });
  await client.credits.allocate({ allocations: [{ modelId: FLASH, credits: 75 }] });
});

/** The app, started (again) behind the proxy. */
function start(options = {}): BillingClient {
  return service.as(user, { baseUrl: proxy.url, ...phone.start(fetchAlone), maxRetries: 0, ...options });
}

async function amounts(of = user): Promise<number[]> {
  const all: number[] = [];
  for await (const { amount } of service.as(of).transactions.list()) all.push(amount);
  return all;
}

const chat = { modelId: FLASH, inputTokens: 40, outputTokens: 2 };

test.each<[string, Fate]>([
  ["before the service got it", { hang: true }],
  ["after the service did it", { cutAnswerAt: 0 }],
  ["while the answer came", { cutAnswerAt: 60 }],
])("killed %s: one effect", async (_, fate) => {
  const app = start();
  let reached = () => {};
  const arrived = new Promise<void>((resolve) => {
    reached = resolve;
  });
  proxy.fate = () => {
    reached();
    return fate;
  };
  app.tokens.consume(chat).catch(() => {});
  await arrived;
  phone.kill();
  proxy.fate = () => ({});
  const resumed = await start().resume();
  expect(resumed).toEqual([{ path: "/tokens/consume", idempotencyKey: expect.any(String), kept: false }]);
  expect(await amounts()).toEqual([42, 75, 300]);
  expect(phone.kept).toBe(0);
  expect(await start().resume()).toEqual([]);
});

test("an app without a connection keeps its chats, and sends them in order", async () => {
  const app = start();
  proxy.fate = () => ({ refuse: true });
  for (const inputTokens of [1, 2, 3]) {
    const error = await app.tokens.consume({ ...chat, inputTokens, outputTokens: 0 }).catch((e) => e);
    expect(error).toBeInstanceOf(ConnectionError);
    expect(error.kept).toBe(true);
  }
  phone.kill();
  // Still none.
  const [first, ...others] = await start().resume();
  expect(first).toMatchObject({ kept: true, error: expect.any(ConnectionError) });
  expect(others).toEqual([]);
  expect(phone.kept).toBe(3);
  phone.kill();
  proxy.fate = () => ({});
  await start().resume();
  expect(await amounts()).toEqual([3, 2, 1, 75, 300]);
});

test("a second press is the first one, also after a restart", async () => {
  proxy.fate = () => ({ cutAnswerAt: 0 });
  const order = { allocations: [{ modelId: FLASH, credits: 150 }] };
  await expect(start().credits.allocate(order)).rejects.toMatchObject({ kept: true });
  phone.kill();
  // Nothing is sent until the press: the start finds no connection.
  proxy.fate = () => ({ refuse: true });
  const app = start();
  await app.resume();
  proxy.fate = () => ({});
  await app.credits.allocate(order);
  expect(await amounts()).toEqual([150, 75, 300]);
  expect(phone.kept).toBe(0);
});

test("what was refused is not kept", async () => {
  const app = start();
  await expect(app.tokens.consume({ ...chat, modelId: "unknown" })).rejects.toMatchObject({ kept: false });
  expect(phone.kept).toBe(0);
});

test("what is kept is sent for nobody else", async () => {
  proxy.fate = () => ({ refuse: true });
  await expect(start().tokens.consume(chat)).rejects.toMatchObject({ kept: true });
  phone.kill();
  proxy.fate = () => ({});
  expect(await start({ token: login("somebody else") }).resume()).toEqual([]);
  phone.kill();
  expect(await start({ token: undefined }).resume()).toEqual([]);
  phone.kill();
  expect(await start({ user: "somebody else" }).resume()).toEqual([]);
  expect(phone.kept).toBe(1);
  phone.kill();
  // A login of the same user is another token.
  await start({ token: login(user, { exp: Math.floor(Date.now() / 1000) + 7200 }) }).resume();
  expect(await amounts()).toEqual([42, 75, 300]);
});

test("a login that ran out keeps what is kept", async () => {
  proxy.fate = () => ({ cutAnswerAt: 0 });
  await expect(start().tokens.consume(chat)).rejects.toMatchObject({ kept: true });
  phone.kill();
  proxy.fate = () => ({});
  const [late] = await start({ token: login(user, { exp: 1 }) }).resume();
  expect(late).toMatchObject({ kept: true, error: { status: 401 } });
  phone.kill();
  await start().resume();
  expect(await amounts()).toEqual([42, 75, 300]);
});

test("what is too old for its key is not sent", async () => {
  proxy.fate = () => ({ refuse: true });
  await expect(start().tokens.consume(chat)).rejects.toMatchObject({ kept: true });
  phone.kill();
  proxy.fate = () => ({});
  for (const [name, text] of phone.items) {
    const old = JSON.parse(text).map((kept: { at: number }) => ({ ...kept, at: kept.at - 6.5 * 86_400_000 }));
    phone.items.set(name, JSON.stringify(old));
  }
  expect(await start().resume()).toEqual([]);
  expect(await amounts()).toEqual([75, 300]);
});

test("a storage that fails or holds nonsense stops nobody", async () => {
  const broken = {
    getItem: () => {
      throw new Error("locked");
    },
    setItem: () => Promise.reject(new Error("full")),
    removeItem: () => Promise.reject(new Error("locked")),
  };
  const app = start({ storage: broken });
  await app.tokens.consume(chat);
  proxy.fate = () => ({ refuse: true });
  await expect(app.tokens.consume(chat)).rejects.toMatchObject({ kept: false });
  proxy.fate = () => ({});
  phone.items.set("token-billing:unanswered", "{nonsense");
  const other = start();
  expect(await other.resume()).toEqual([]);
  await other.tokens.consume(chat);
  expect(await amounts()).toEqual([42, 42, 75, 300]);
});

test("two clients with one storage lose nothing of each other's", async () => {
  proxy.fate = () => ({ refuse: true });
  const { storage, fetch } = phone.start(fetchAlone);
  const clients = [1, 2].map(() => service.as(user, { baseUrl: proxy.url, storage, fetch, maxRetries: 0 }));
  const calls = [1, 2, 3, 4].map((inputTokens) =>
    clients[inputTokens % 2]!.tokens.consume({ ...chat, inputTokens, outputTokens: 0 }),
  );
  await Promise.allSettled(calls);
  expect(phone.kept).toBe(4);
  proxy.fate = () => ({});
  await Promise.all(clients.map((client) => client.resume()));
  expect((await amounts()).sort()).toEqual([1, 2, 3, 300, 4, 75]);
});

test("a synchronous storage will do", async () => {
  const items = new Map<string, string>();
  const storage = {
    getItem: (name: string) => items.get(name),
    setItem: (name: string, value: string) => void items.set(name, value),
    removeItem: (name: string) => void items.delete(name),
  };
  proxy.fate = () => ({ refuse: true });
  await expect(start({ storage }).tokens.consume(chat)).rejects.toMatchObject({ kept: true });
  proxy.fate = () => ({});
  await start({ storage }).resume();
  expect(await amounts()).toEqual([42, 75, 300]);
  expect(items.size).toBe(0);
});
