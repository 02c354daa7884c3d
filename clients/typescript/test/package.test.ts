// What the package may weigh, and what it may stand on.

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, test } from "vitest";

const MOST_BYTES = 12 * 1024;
const MOST_LINES = 700;
/** What sends, tries again, keeps and answers; the rest is types, texts and entries of their own. */
const CLIENT = ["client.ts", "holds.ts", "outbox.ts", "pages.ts", "purchases.ts", "transport.ts"];

async function bytes(contents: string): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: "src", loader: "ts" },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2019",
    external: ["react"],
  });
  return gzipSync(outputFiles[0]!.contents).length;
}

test("the bundle is small", async () => {
  expect(await bytes(`export * from "./index.ts"; export * as compat from "./compat.ts"`)).toBeLessThan(MOST_BYTES);
});

test("the client is short", () => {
  // Lines of code: comments and empty ones are free.
  const code = (text: string) => text.split("\n").filter((line) => !/^\s*(\/\/|\/\*\*|\*|$)/.test(line));
  const lines = CLIENT.reduce((sum, name) => sum + code(readFileSync(`src/${name}`, "utf8")).length, 0);
  expect(lines).toBeLessThanOrEqual(MOST_LINES);
});

test("nothing is needed at run time", () => {
  const { dependencies, peerDependenciesMeta } = JSON.parse(readFileSync("package.json", "utf8"));
  expect(dependencies).toBeUndefined();
  expect(peerDependenciesMeta).toEqual({ react: { optional: true } });
});
