// The example does on a new service what it says.

import { spawnSync } from "node:child_process";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { Service } from "./harness/service.ts";

test("the example app buys, quotes, allocates, chats and looks", async () => {
  const service = await Service.start();
  const { outputFiles } = await build({
    entryPoints: ["examples/chat.ts"],
    bundle: true,
    write: false,
    platform: "node",
    format: "esm",
    alias: { "token-billing-client": "./src/index.ts" },
  });
  const node = ["--input-type=module", "-", service.url];
  const { stdout, stderr } = spawnSync("node", node, { input: outputFiles[0]!.text, encoding: "utf8" });
  expect(stderr).toBe("");
  const lines = stdout.trim().split("\n");
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
