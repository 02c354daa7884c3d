#!/usr/bin/env node
// Runs the binary of this platform with the arguments, the environment and the streams that it was given, and ends as
// it ends.
"use strict";

const { spawn } = require("node:child_process");
const { constants } = require("node:os");

const name = `token-billing-${process.platform}-${process.arch}`;
let binary;
try {
  binary = require.resolve(`${name}/token-billing`);
} catch {
  console.error(
    `token-billing: there is no package ${name} here. Either this platform has none (build the service with ` +
      "cargo), or optional dependencies were left out: install again without --omit=optional",
  );
  process.exit(1);
}

const child = spawn(binary, process.argv.slice(2), { stdio: "inherit" });
// A terminal sends its signals to both; others, such as an init system, to this process alone. The service takes a
// second one for the first.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => child.kill(signal));
}
child.on("error", (error) => {
  console.error(`token-billing: ${binary} can't be started: ${error.message}`);
  process.exit(1);
});
child.on("exit", (status, signal) => {
  process.exit(signal === null ? status : 128 + constants.signals[signal]);
});
