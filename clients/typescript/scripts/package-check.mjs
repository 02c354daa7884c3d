// Packs the package and looks at it as those who install it do: linters for packages, imports from ES modules,
// CommonJS and the way React Native resolves, a TypeScript project of each kind, and the README's examples.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const bin = (name) => resolve("node_modules/.bin", name);
const run = (command, args, cwd = ".") => execFileSync(command, args, { cwd, stdio: "inherit" });

const directory = mkdtempSync(join(tmpdir(), "package-"));
try {
  execFileSync("npm", ["pack", "--silent", "--pack-destination", directory], { stdio: "pipe" });
  const [tarball] = readdirSync(directory).map((name) => join(directory, name));
  run(bin("publint"), ["run", tarball, "--strict"]);
  run(bin("attw"), [tarball, "--no-emoji"]);

  const user = join(directory, "user");
  const modules = join(user, "node_modules");
  mkdirSync(join(modules, "token-billing-client"), { recursive: true });
  run("tar", ["-xzf", tarball, "-C", join(modules, "token-billing-client"), "--strip-components", "1"]);
  for (const name of ["react", "@types"]) symlinkSync(resolve("node_modules", name), join(modules, name));

  const names = (file) => `
    if (typeof main.BillingClient !== "function") throw new Error("${file}: no BillingClient");
    if (typeof compat.BillingApiService !== "function") throw new Error("${file}: no BillingApiService");
    if (typeof react.useWallet !== "function") throw new Error("${file}: no useWallet");
    console.log("${file}: ok");`;
  const imports = `
    import * as main from "token-billing-client";
    import * as compat from "token-billing-client/compat";
    import * as react from "token-billing-client/react";`;
  const requires = `
    const main = require("token-billing-client");
    const compat = require("token-billing-client/compat");
    const react = require("token-billing-client/react");`;
  writeFileSync(join(user, "esm.mjs"), imports + names("ES module"));
  writeFileSync(join(user, "cjs.cjs"), requires + names("CommonJS"));
  run("node", ["esm.mjs"], user);
  run("node", ["cjs.cjs"], user);

  // As Metro resolves: by the condition `react-native`, and, in older apps, by the fields alone.
  writeFileSync(join(user, "native.js"), imports + names("React Native"));
  writeFileSync(
    join(user, "old-native.js"),
    `${imports.replaceAll("client/", "client.alias/")}${names("React Native without exports")}`,
  );
  for (const [entry, options] of [
    ["native.js", { conditions: ["react-native"] }],
    [
      "old-native.js",
      {
        mainFields: ["react-native", "module", "main"],
        // A relative path is not resolved by `exports`.
        alias: {
          "token-billing-client": "./node_modules/token-billing-client",
          "token-billing-client.alias": "./node_modules/token-billing-client",
        },
      },
    ],
  ]) {
    const outfile = join(user, `${entry}.bundle.cjs`);
    const { metafile } = await build({
      entryPoints: [join(user, entry)],
      absWorkingDir: user,
      bundle: true,
      metafile: true,
      format: "cjs",
      platform: "neutral",
      external: ["react"],
      outfile,
      logLevel: "warning",
      ...options,
    });
    const inputs = Object.keys(metafile.inputs).filter((name) => name.includes("token-billing-client"));
    const strays = inputs.filter((name) => !name.includes("/dist/esm/"));
    if (inputs.length === 0 || strays.length > 0) throw new Error(`${entry}: resolved to ${strays.join(", ")}`);
    run("node", [outfile], user);
  }

  const program = `${imports}
    const client: main.BillingClient = new compat.BillingApiService("http://service.example").client;
    export const credits: Promise<number> = client.balance().then((balance) => balance.credits);
    export const wallet: main.Wallet | null = react.useWallet(client).wallet;`;
  writeFileSync(join(user, "user.mts"), program);
  writeFileSync(join(user, "user.cts"), program);
  const strict = ["--noEmit", "--strict", "--skipLibCheck", "false", "--target", "es2022", "--types", "react"];
  for (const lib of [["es2022", "dom"], ["es2022"]]) {
    const options = ["--lib", lib.join(","), "--module", "nodenext"];
    run(bin("tsc"), [...strict, ...options, "user.mts", "user.cts"], user);
  }
  console.log("TypeScript, with and without a DOM: ok");

  // What an app has beside the lines that are shown.
  writeFileSync(
    join(user, "app.d.ts"),
    `declare module "@react-native-async-storage/async-storage" {
      const storage: import("token-billing-client").ClientStorage;
      export default storage;
    }
    declare module "expo-iap" {
      interface Purchase { productId: string; transactionId?: string | null; purchaseToken?: string | null }
      export function useIAP(options: { onPurchaseSuccess(purchase: Purchase): Promise<void> }): {
        finishTransaction(options: { purchase: Purchase; isConsumable: boolean }): Promise<void>;
      };
    }
    declare const BillingClient: typeof import("token-billing-client").BillingClient;
    declare const BillingError: typeof import("token-billing-client").BillingError;
    declare const ApiError: typeof import("token-billing-client").ApiError;
    declare const AsyncStorage: import("token-billing-client").ClientStorage;
    declare const billing: import("token-billing-client").BillingClient;
    declare const baseUrl: string, backendUrl: string, token: string, question: string, modelId: string;
    declare const credits: number;
    declare const mmkv: {
      getString(name: string): string | undefined;
      set(name: string, value: string): void;
      delete(name: string): void;
    };
    declare const AppState: { addEventListener(name: "change", listener: (state: string) => unknown): void };
    declare const model: {
      stream(question: string, options: { maxOutputTokens: number }): AsyncIterable<{
        text: string;
        usage: { promptTokens: number; outputTokens: number };
      }>;
    };
    declare function getAccessToken(): Promise<string>;
    declare function show(text: string): void;
    declare function offer(most: unknown): void;`,
  );
  const blocks = [...readFileSync("README.md", "utf8").matchAll(/^```tsx?\n(.*?)^```$/gms)];
  const files = blocks.map(([, code], index) => {
    const file = `readme-${index + 1}.mts`;
    writeFileSync(join(user, file), `${code}\nexport {};\n`);
    return file;
  });
  if (files.length === 0) throw new Error("the README shows nothing");
  run(bin("tsc"), [...strict, "--lib", "es2022", "--module", "nodenext", "app.d.ts", ...files], user);
  console.log(`${files.length} examples of the README: ok`);
} finally {
  rmSync(directory, { recursive: true });
}
