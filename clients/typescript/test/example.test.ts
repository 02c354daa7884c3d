// The example does on a new service what it says, and so do the lines of client in the README of the service.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { Service } from "./harness/service.ts";

/** What a program of the client prints. */
async function run(contents: string, ...args: string[]): Promise<string[]> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: ".", loader: "ts" },
    bundle: true,
    write: false,
    platform: "node",
    format: "esm",
    alias: { "token-billing-client": "./src/index.ts" },
  });
  const node = ["--input-type=module", "-", ...args];
  const { stdout, stderr } = spawnSync("node", node, { input: outputFiles[0]!.text, encoding: "utf8" });
  expect(stderr).toBe("");
  return stdout.trim().split("\n");
}

test("the lines in the README of the service do what its curls do", async () => {
  const service = await Service.start();
  const block = /^```ts\n(.*?)^```$/ms.exec(readFileSync("../../README.md", "utf8"))![1]!;
  const program = `import { BillingClient } from "token-billing-client";
    ${block.replace("http://127.0.0.1:8000", service.url)}
    console.log(finishTransaction, JSON.stringify(await billing.balance()));`;
  const balance = { credits: 150, allocatedTokens: { "gemini-2.0-flash": 1_993_000 } };
  expect(block).toContain("http://127.0.0.1:8000");
  expect(await run(program)).toEqual([`true ${JSON.stringify(balance)}`]);
  await service.stop();
});

test("the example app buys, quotes, allocates, chats and looks", async () => {
  const service = await Service.start();
  const lines = await run(readFileSync("examples/chat.ts", "utf8"), service.url);
  expect(lines).toContain("buy: granted, the store's transaction may be finished: true");
  expect(lines).toContain("quote: 150 credits buy 2000000 tokens, at most 300 credits fit");
  expect(lines).toContain("chat: 24 tokens, 1999976 left");
  expect(lines.filter((line) => line.startsWith("history: "))).toEqual([
    "history: consumption of 24 for gemini-2.0-flash",
    "history: allocation of 150 for gemini-2.0-flash",
    "history: purchase of 300",
  ]);
  await service.stop();
});
