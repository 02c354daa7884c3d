import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    typecheck: { include: ["test/**/*.test-d.ts"], tsconfig: "tsconfig.test.json" },
    // Two cores, and a service in every file.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
