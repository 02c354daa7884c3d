// Runs the package in Hermes, the engine of React Native apps, where there is neither fetch nor AbortController, with a
// stand-in for the former; and compiles it with today's compiler.
//
// Metro compiles classes and async functions away for the engine of 0.12, so that is done here too. Today's takes the bundle as it is.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { transformSync } from "@babel/core";
import { build } from "esbuild";

const PLATFORMS = { linux: "linux64-bin", darwin: "osx-bin", win32: "win64-bin" };
const STARTED = "every call in Hermes: ok";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const platform = PLATFORMS[process.platform];
const directory = mkdtempSync(join(tmpdir(), "hermes-"));
try {
  const bundle = join(directory, "bundle.js");
  await build({
    entryPoints: ["scripts/hermes-app.js"],
    conditions: ["react-native"],
    mainFields: ["react-native"],
    bundle: true,
    format: "iife",
    target: "es2019",
    outfile: bundle,
    logLevel: "warning",
    // Not what was built today from some other place.
    alias: { "token-billing-client": "./dist/esm/index.js", "token-billing-client/compat": "./dist/esm/compat.js" },
  });
  const compiler = `node_modules/hermes-compiler/hermesc/${platform}/hermesc`;
  const bytecode = join(directory, "bundle.hbc");
  execFileSync(compiler, ["-w", "-emit-binary", "-O", "-out", bytecode, bundle], { stdio: "inherit" });
  console.log(`compiled: ${statSync(bytecode).size} bytes of bytecode`);

  const { code } = transformSync(readFileSync(bundle, "utf8"), {
    plugins: [
      "@babel/plugin-transform-classes",
      "@babel/plugin-transform-async-to-generator",
      "@babel/plugin-transform-block-scoping",
    ],
    configFile: false,
    compact: false,
  });
  const old = join(directory, "old.js");
  writeFileSync(old, code);
  const engine = `node_modules/hermes-engine-cli/${platform}/hermes`;
  const said = execFileSync(engine, ["-w", "-O", old], { encoding: "utf8", timeout: 60_000 });
  process.stdout.write(said);
  if (!said.includes(STARTED)) throw new Error("the app in Hermes did not come to its end");
} finally {
  rmSync(directory, { recursive: true });
}
