// What an operator does in a day, in Chromium, against the binary; and a picture of every page.
//
//     node pages.mjs BINARY PICTURES
//
// It fails where the browser reports something its policy forbids, where a page asks another host, writes an error to
// the console, overflows its screen or has serious findings of axe, and where a page and the API differ.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";
import { startService, TOKEN } from "./service.mjs";
import { APP, startStore, tokenOf } from "./store.mjs";

const [binary, pictures] = process.argv.slice(2).map((path) => resolve(path));
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** In which ways each page is seen. */
const WAYS = [1280, 390].flatMap((width) => [
  { width, colorScheme: "light", locale: "en" },
  { width, colorScheme: "dark", locale: "en" },
  { width, colorScheme: "light", locale: "ja" },
]);
const FIRST_LOAD_MOST_BYTES = 150_000;
const MODELS = ["gemini-2.0-flash", "gemini-2.5-flash", "gemini-2.5-pro"];

const directory = mkdtempSync(join(tmpdir(), "pages-"));
mkdirSync(pictures, { recursive: true });
const sold = { review: "app.credits.unknown", second: "app.credits.other", third: "app.credits.none", fourth: "app.credits.new" };
const store = await startStore(join(directory, "google.json"), sold);
const service = await startService(binary, directory, {
  BILLING_RECEIPTS: "google",
  BILLING_GOOGLE_PACKAGE: APP,
  BILLING_GOOGLE_SERVICE_ACCOUNT: join(directory, "google.json"),
  BILLING_GOOGLE_API_URL: store.origin,
});
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const found = [];

/** What Chromium says of a form that comes back, of which the status is 422. */
const SENT_BACK = /^Failed to load resource: .* 422 /;

/** Follows what a page does that it must not. */
function watch(page) {
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type()) && !SENT_BACK.test(line.text())) found.push(`console: ${line.text()}`);
  });
  page.on("pageerror", (error) => found.push(`script: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(service.pages) && !url.startsWith("data:")) found.push(`another host: ${url}`);
  });
}

/** Somebody in front of a screen, who is in. */
async function enter(options) {
  const context = await browser.newContext({ baseURL: service.pages, locale: "en", ...options });
  const page = await context.newPage();
  watch(page);
  await page.goto("/login");
  await page.fill("#token", TOKEN);
  await Promise.all([page.waitForURL("**/"), page.getByRole("button", { name: /^(Log in|ログイン)$/ }).click()]);
  return page;
}

/** Fills in a form and goes through its second look. */
async function doIt(page, fields, button = "Yes, do it") {
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label, { exact: true }).fill(value);
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByRole("heading", { name: "Look again before it is done" }).waitFor();
  await page.getByRole("button", { name: button }).click();
}

const told = async (method, path, body, user) => {
  const answer = await service.call(method, path, body, user);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
};

/** Asks until it is so. */
async function until(what, isSo) {
  for (const end = Date.now() + 30_000; Date.now() < end; ) if (await isSo()) return;
  assert.fail(`never: ${what}`);
}

/** What a service has that is in use. */
async function fill() {
  for (const user of ["alice", "bob", "carol", "ユーザー42"]) {
    await told("POST", `/operator/users/${encodeURIComponent(user)}/grants`, { credits: 4_000, reason: "welcome" });
    await told("POST", "/credits/allocate", { allocations: [{ model_id: MODELS[0], credits: 150 }, { model_id: MODELS[1], credits: 200 }, { model_id: MODELS[2], credits: 300 }] }, user);
    for (let chat = 1; chat <= 9; chat += 1) {
      await told("POST", "/tokens/consume", { model_id: MODELS[chat % 3], input_tokens: 9_000 - chat * 500, output_tokens: 900 * chat }, user);
    }
  }
  await told("POST", "/holds", { model_id: MODELS[0], tokens: 8_000, ttl_seconds: 3_000 }, "alice");
  for (const name of Object.keys(sold)) {
    const record = { purchaseToken: tokenOf(name), productId: sold[name], transactionId: `GPA.${name}` };
    const answer = await service.call("POST", "/credits/add", { credits: 500, purchase_record: record }, "alice");
    assert.equal(answer.status, 503, JSON.stringify(answer.body));
  }
}

/** What an operator does. */
async function work(page) {
  // Find a user, and give credits.
  await page.getByRole("link", { name: "Users" }).click();
  await page.getByRole("searchbox").fill("ali");
  // The list follows what is typed.
  await page.getByRole("link", { name: "bob" }).waitFor({ state: "detached" });
  await page.getByRole("link", { name: "alice", exact: true }).click();
  const before = await told("GET", "/wallet", undefined, "alice");
  await page.getByRole("link", { name: "Grant credits" }).click();
  await page.getByLabel("Credits").fill("five hundred");
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByText("Enter a whole number from 1 on.").waitFor();
  assert.equal(await page.getByLabel("Credits").inputValue(), "five hundred", "the value comes back");
  await page.getByText("Say why, in 1 to 200 characters.").waitFor();
  await doIt(page, { Credits: "500", Reason: "the app crashed" });
  await page.getByText("Granted.").waitFor();
  const wallet = await told("GET", "/wallet", undefined, "alice");
  assert.equal(wallet.credits.total, before.credits.total + 500);
  assert.equal(wallet.credits.bonus, before.credits.bonus + 500);
  await page.getByText(wallet.credits.total.toLocaleString("en"), { exact: true }).first().waitFor();
  const line = page.locator("#lines tr").first();
  assert.match(await line.innerText(), /grant[\s\S]*\+500[\s\S]*the app crashed/);

  // The ledger's filter and its file.
  await page.getByLabel("Kind").selectOption("consumption");
  await page.waitForFunction(() => [...document.querySelectorAll("#lines .tag")].every((tag) => tag.textContent === "consumption"));
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download as CSV" }).click()]);
  assert.match(readFileSync(await file.path(), "utf8"), /^id,type,/);

  // Release the hold, and take a consumption back.
  await page.goto("/user?id=alice");
  await page.getByRole("link", { name: "Release" }).click();
  await doIt(page, {});
  await page.getByText("Released.").waitFor();
  await page.getByRole("link", { name: /^Reverse/ }).first().click();
  await doIt(page, { Reason: "the answer broke off" });
  await page.getByText("Reversed.").waitFor();

  // Freeze, and unfreeze.
  await page.getByRole("link", { name: "Freeze" }).click();
  await doIt(page, { Reason: "charged back" });
  await page.getByText("Frozen.").waitFor();
  assert.equal((await told("GET", "/wallet", undefined, "alice")).frozen, true);
  await page.getByRole("link", { name: "Unfreeze" }).click();
  await doIt(page, { Reason: "it was a mistake" });
  await page.getByText("Not frozen any more.").waitFor();

  // Change a price, with a typing mistake on the way and somebody else at it too.
  await page.getByRole("link", { name: "Prices and products" }).click();
  await page.getByRole("link", { name: `Edit ${MODELS[0]}` }).click();
  await page.getByLabel("Credits per million tokens").fill("8000");
  await page.locator("#preview").getByText("After: 8,000").waitFor();
  await doIt(page, { Reason: "dearer" });
  await page.getByText(/more than five times/).waitFor();
  await told("PUT", `/operator/prices/${MODELS[0]}`, { price_per_m_token: 77, category: "quick", reason: "somebody else" });
  await doIt(page, { "Credits per million tokens": "80" });
  await page.getByText("it is 77 now. You had seen 75.").waitFor();
  await doIt(page, {});
  await page.getByText("The price counts from now on.").waitFor();
  assert.equal((await told("GET", "/pricing"))[MODELS[0]].price_per_m_token, 80);

  // A model comes and goes; what was bought of one goes on being used.
  await page.getByRole("link", { name: "Prices and products" }).click();
  await page.getByRole("link", { name: "Add a model" }).click();
  await page.getByLabel("Model", { exact: true }).fill("new-model");
  await page.getByLabel("Category").selectOption("think");
  await doIt(page, { "Credits per million tokens": "90", Reason: "it is out" });
  await page.getByText("The price counts from now on.").waitFor();
  await page.goto("/price?model=new-model");
  await page.getByLabel("Take off sale").check();
  await doIt(page, { Reason: "it is gone" });
  await page.getByText("The model is not sold any more.").waitFor();
  assert.equal((await told("GET", "/pricing"))["new-model"], undefined);

  // Put a balance right.
  await page.goto("/user?id=alice");
  await page.getByRole("link", { name: "Adjust" }).click();
  await doIt(page, { Difference: "-20", Reason: "given twice" });
  await page.getByText("Adjusted.").waitFor();
  let credits = (await told("GET", "/wallet", undefined, "alice")).credits.total;
  assert.equal(credits, wallet.credits.total - 20);

  // A product, and purchases in review: one is asked for again, the others are decided.
  await page.getByRole("link", { name: "Prices and products" }).click();
  await page.getByRole("link", { name: "Add a product" }).click();
  await page.getByRole("textbox", { name: "Product" }).fill(sold.fourth);
  await page.getByLabel("Offered").check();
  await doIt(page, { Credits: "40", Reason: "a new package" });
  await page.getByText("The product is saved.").waitFor();
  assert.equal((await told("GET", "/products"))[sold.fourth].credits, 40);
  const open = async (name, act) => {
    await page.goto("/purchases");
    await page.getByRole("row", { name: sold[name] }).getByRole("link", { name: new RegExp(`^${act}`) }).click();
  };
  await open("third", "Ask again");
  await doIt(page, { Reason: "is it there by now" });
  await page.getByText("Its store is asked again.").waitFor();
  await page.getByRole("heading", { name: "What the store said" }).waitFor();
  // The one of the product that is there now needs nobody.
  await until("the purchase is granted", async () => (await told("GET", "/wallet", undefined, "alice")).credits.total === credits + 40);
  await open("review", "Approve");
  await doIt(page, { "Credits (may be empty)": "300", Reason: "the receipt was seen" });
  await page.getByText("Approved.").waitFor();
  credits += 340;
  assert.equal((await told("GET", "/wallet", undefined, "alice")).credits.total, credits);
  await page.getByRole("link", { name: "Refund" }).click();
  await doIt(page, { "Credits (may be empty)": "100", Reason: "paid back by bank" });
  await page.getByText("Refunded.").waitFor();
  assert.equal((await told("GET", "/wallet", undefined, "alice")).credits.total, credits - 100);
  await open("second", "Reject");
  await doIt(page, { Reason: "it is not ours" });
  await page.getByText("Rejected.").waitFor();

  // Somebody wants to be forgotten.
  await page.goto("/user?id=carol");
  await page.getByRole("link", { name: "Erase" }).click();
  await doIt(page, { "Type the user's id to confirm": "carol", Reason: "asked by mail" });
  await page.getByText("It is being erased").waitFor();
  assert.equal((await service.call("GET", "/operator/users/carol")).status, 404);

  // Verify.
  await page.getByRole("link", { name: "System" }).click();
  await page.getByRole("button", { name: "Verify now" }).click();
  await page.getByText("All is as it must be").waitFor();
  assert.equal((await told("GET", "/operator/verify")).ok, true);

  // The log has all of it.
  await page.getByRole("link", { name: "Log", exact: true }).click();
  const log = await page.locator("tbody").innerText();
  for (const reason of ["the app crashed", "charged back", "it was a mistake", "it is gone", "given twice", "a new package", "is it there by now", "the receipt was seen", "paid back by bank", "it is not ours", "asked by mail"]) assert.ok(log.includes(reason), reason);
}

/** Serious findings of axe on the page as it is. */
async function accessible(page, name) {
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: AXE });
  const run = "axe.run().then((result) => JSON.stringify(result.violations))";
  const { result } = await session.send("Runtime.evaluate", { expression: run, awaitPromise: true, returnByValue: true });
  for (const { id, impact, nodes } of JSON.parse(result.value)) {
    if (["serious", "critical"].includes(impact)) found.push(`axe on ${name}: ${id}: ${nodes[0].html}`);
  }
  await session.detach();
}

/** Pictures of all pages at each width, light and dark, and in Japanese. */
async function picture(pages) {
  for (const { width, colorScheme, locale } of WAYS) {
    const way = `${width}-${colorScheme}${locale === "ja" ? "-ja" : ""}`;
    const page = await enter({ viewport: { width, height: width > 600 ? 900 : 844 }, colorScheme, locale });
    for (const [name, path] of Object.entries(pages)) {
      await page.goto(path, { waitUntil: "load" });
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wider > 0) found.push(`${name}, ${way}: ${wider} pixels too wide`);
      await accessible(page, `${name}, ${way}`);
      const height = await page.evaluate(() => document.documentElement.scrollHeight);
      await page.setViewportSize({ width, height: Math.min(Math.max(height, 844), 8_000) });
      await page.screenshot({ path: join(pictures, `${name}-${way}.png`) });
      await page.setViewportSize({ width, height: width > 600 ? 900 : 844 });
    }
    await page.context().close();
  }
}

/** Bytes that come over the wire when a page is opened for the first time. */
async function firstLoad() {
  const page = await enter({});
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0;
  session.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
  await page.goto("/", { waitUntil: "networkidle" });
  await page.context().close();
  return bytes;
}

/** The same without any script: a grant from the first page to the last. */
async function withoutScript() {
  const page = await enter({ javaScriptEnabled: false });
  await page.getByRole("link", { name: "Users" }).click();
  await page.getByRole("searchbox").fill("bob");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("link", { name: "bob", exact: true }).click();
  await page.getByRole("link", { name: "Grant credits" }).click();
  await doIt(page, { Credits: "7", Reason: "by hand" });
  await page.getByText("Granted.").waitFor();
  await page.locator(".chart table").waitFor();
  await page.context().close();
}

try {
  await fill();
  const page = await enter({ viewport: { width: 1280, height: 900 } });
  await work(page);
  await withoutScript();
  await picture({
    login: "/login",
    overview: "/",
    users: "/users",
    user: "/user?id=alice",
    grant: "/user/grant?id=alice",
    adjust: "/user/adjust?id=alice",
    erase: "/user/erase?id=alice",
    purchases: "/purchases",
    review: "/purchases?state=review",
    purchase: "/purchase?id=1",
    approve: "/purchase/approve?id=3",
    prices: "/prices",
    price: `/price?model=${MODELS[0]}`,
    product: "/product?new=yes",
    reports: "/reports?at=2026-09-30&timezone=Asia/Tokyo",
    log: "/log",
    system: "/system",
  });
  const japanese = await enter({ viewport: { width: 1280, height: 900 } });
  await japanese.getByRole("button", { name: "日本語" }).click();
  await japanese.getByRole("heading", { name: "概要" }).waitFor();
  for (const [name, path] of [["overview", "/"], ["user", "/user?id=alice"]]) {
    await page.goto(path);
    await page.screenshot({ path: join(pictures, `readme-${name}.png`) });
  }
  const bytes = await firstLoad();
  console.log(`first load of the overview: ${bytes} bytes`);
  assert.ok(bytes < FIRST_LOAD_MOST_BYTES, `${bytes} bytes`);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/login");
  await page.goto("/users");
  assert.match(page.url(), /\/login\?to=%2Fusers$/);
  assert.deepEqual(found, [], found.join("\n"));
  console.log("the pages: ok");
} finally {
  if (found.length) console.error(found.join("\n"));
  await browser.close();
  await service.stop();
  store.stop();
  rmSync(directory, { recursive: true });
}
