// Builds `dist/`: ES modules and CommonJS, each with its types.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
rmSync("dist", { recursive: true, force: true });
for (const kind of ["esm", "cjs"]) {
  execFileSync("node_modules/.bin/tsc", ["--project", `tsconfig.${kind}.json`], { stdio: "inherit" });
}
// The package is of ES modules; what is in here is not.
writeFileSync("dist/cjs/package.json", `${JSON.stringify({ type: "commonjs" })}\n`);
