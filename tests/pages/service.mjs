// Starts the binary and ends it, and asks its API as an operator does with curl.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export const TOKEN = "operator-token-of-the-pages-test-..";

/** Starts it in a directory; where its API and its pages are. */
export async function startService(binary, directory, settings) {
  const child = spawn(binary, [], {
    cwd: directory,
    env: {
      PATH: process.env.PATH,
      NO_COLOR: "1",
      BILLING_LISTEN: "127.0.0.1:0",
      BILLING_ADMIN_LISTEN: "127.0.0.1:0",
      BILLING_OPERATOR_TOKEN: TOKEN,
      BILLING_LANGUAGE: "en",
      ...settings,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((end) => child.on("exit", end));
  const found = {};
  await new Promise((ready, fail) => {
    ended.then((status) => fail(new Error(`the service ended with ${status}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      for (const name of ["address", "admin"]) {
        const value = line.match(new RegExp(`\\b${name}=(\\S+)`));
        if (value) found[name] ??= `http://${value[1]}`;
      }
      if (found.address && found.admin) ready();
    });
  });
  const call = async (method, path, body, user) => {
    const answer = await fetch(`${found.address}/api/billing${path}`, {
      method,
      headers: {
        authorization: `Bearer ${TOKEN}`,
        ...(user && { "billing-user": encodeURIComponent(user) }),
        ...(body && { "content-type": "application/json", "idempotency-key": crypto.randomUUID() }),
      },
      body: body && JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json().catch(() => null) };
  };
  const stop = async () => {
    child.kill("SIGTERM");
    return ended;
  };
  return { pages: found.admin, call, stop };
}
