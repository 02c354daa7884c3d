// Fails where `src/openapi.ts` is not what the service's document gives today.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const directory = mkdtempSync(join(tmpdir(), "openapi-"));
try {
  const made = join(directory, "openapi.ts");
  const document = "../../tests/it/openapi.json";
  execFileSync("node_modules/.bin/openapi-typescript", [document, "--output", made], { stdio: "pipe" });
  if (readFileSync(made, "utf8") !== readFileSync("src/openapi.ts", "utf8")) {
    console.error("src/openapi.ts is not what tests/it/openapi.json gives: run `npm run types`");
    process.exitCode = 1;
  } else {
    console.log("src/openapi.ts: as the document says");
  }
} finally {
  rmSync(directory, { recursive: true });
}
