// An app in Hermes: every kind of call, on a stand-in for fetch. `hermes.mjs` runs it.
import {
  ApiError,
  BillingClient,
  BillingError,
  ConnectionError,
  TimeoutError,
  ValidationError,
} from "token-billing-client";
import { BillingApiService } from "token-billing-client/compat";

// The engine alone runs timers at once. These run in the order of their times, and only when nothing else is to do.
const soon = globalThis.setTimeout;
const IDLE_TURNS = 300;
const timers = [];
let now = 0;
let isOver = false;
globalThis.setTimeout = (run, ms) => {
  const timer = { at: now + ms, run };
  timers.push(timer);
  return timer;
};
globalThis.clearTimeout = (timer) => {
  const index = timers.indexOf(timer);
  if (index >= 0) timers.splice(index, 1);
};
function turn(idle) {
  if (isOver) return;
  if (idle < IDLE_TURNS) return void soon(() => turn(idle + 1));
  timers.sort((one, other) => one.at - other.at);
  const next = timers.shift();
  if (next === undefined) return print("FAILED: everybody waits");
  now = next.at;
  next.run();
  soon(() => turn(0));
}
soon(() => turn(0));

function same(what, found, expected) {
  const [one, other] = [JSON.stringify(found), JSON.stringify(expected)];
  if (one !== other) throw new Error(`${what}: ${one} instead of ${other}`);
}

/** Answers in turn; an error is a broken connection, `undefined` no answer at all. */
function standIn(...answers) {
  const asked = [];
  const fetch = (url, { method, headers, body }) => {
    asked.push({
      method,
      path: url.replace("http://service.example/api/billing", ""),
      key: headers["Idempotency-Key"],
      body,
    });
    const answer = answers.shift();
    if (answer === undefined) return new Promise(() => {});
    if (answer instanceof Error) return Promise.reject(answer);
    const [status, said, extra = {}] = answer;
    return Promise.resolve({
      status,
      headers: { get: (name) => extra[name] ?? null },
      text: () => Promise.resolve(JSON.stringify(said)),
    });
  };
  return { fetch, asked };
}

const baseUrl = "http://service.example";
const options = { token: () => Promise.resolve("e30.eyJzdWIiOiJhbGljZSJ9.c2ln") };

async function thrown(call) {
  try {
    await call;
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

async function app() {
  let { fetch, asked } = standIn([200, { credits: 1, allocated_tokens: { a_b: 2 } }]);
  let client = new BillingClient({ baseUrl, fetch, ...options });
  same("balance", await client.balance(), { credits: 1, allocatedTokens: { a_b: 2 } });

  ({ fetch, asked } = standIn(
    new Error("Network request failed"),
    [503, { detail: "busy", code: "overloaded" }],
    [200, { success: true }],
  ));
  client = new BillingClient({ baseUrl, fetch, ...options });
  await client.credits.allocate({ allocations: [{ modelId: "m", credits: 1 }] });
  same("tries", asked.length, 3);
  same(
    "one key",
    asked.every(({ key }) => key === asked[0].key && key.length >= 20),
    true,
  );
  same("body", asked[0].body, '{"allocations":[{"model_id":"m","credits":1}]}');

  ({ fetch } = standIn(
    [200, [{ id: 2 }], { link: '</api/billing/transactions?before=2>; rel="next"' }],
    [200, [{ id: 1 }]],
  ));
  client = new BillingClient({ baseUrl, fetch, ...options });
  const ids = [];
  // As Babel compiles `for await` for engines without it.
  const list = client.transactions.list();
  const iterator = list[Symbol.asyncIterator || "@@asyncIterator"]();
  for (let step = await iterator.next(); !step.done; step = await iterator.next()) ids.push(step.value.id);
  same("history", ids, [2, 1]);

  ({ fetch } = standIn([422, { detail: [{ type: "missing", loc: ["body", "model_id"], msg: "Field required" }] }]));
  let error = await thrown(new BillingClient({ baseUrl, fetch, ...options }).balance());
  same(
    "classes",
    [
      error instanceof ValidationError,
      error instanceof ApiError,
      error instanceof BillingError,
      error instanceof Error,
      error.name,
    ],
    [true, true, true, true, "ValidationError"],
  );
  same("issue", error.issues[0].loc, ["body", "modelId"]);

  ({ fetch } = standIn(undefined));
  error = await thrown(new BillingClient({ baseUrl, fetch, timeoutMs: 10, ...options }).balance());
  same("in time", error instanceof TimeoutError, true);
  error = await thrown(new BillingClient({ baseUrl, maxRetries: 0, ...options }).balance());
  same("without fetch", error instanceof ConnectionError, true);

  const items = {};
  const storage = {
    getItem: (name) => Promise.resolve(items[name] ?? null),
    setItem: (name, value) => Promise.resolve(Object.assign(items, { [name]: value })),
    removeItem: (name) => Promise.resolve(delete items[name]),
  };
  ({ fetch, asked } = standIn(new Error("Network request failed"), [200, { success: true, remaining_tokens: 1 }]));
  client = new BillingClient({ baseUrl, fetch, storage, maxRetries: 0, ...options });
  error = await thrown(client.tokens.consume({ modelId: "m", inputTokens: 1, outputTokens: 1 }));
  same("kept", error.kept, true);
  same("resumed", (await client.resume()).length, 1);
  same("same key", asked[0].key, asked[1].key);
  same("empty", Object.keys(items), []);

  ({ fetch } = standIn(new Error("Network request failed"), [503, { detail: "busy", code: "overloaded" }]));
  client = new BillingClient({ baseUrl, fetch, storage, maxRetries: 1, ...options });
  error = await thrown(client.tokens.consume({ modelId: "m", inputTokens: 1, outputTokens: 1 }));
  same("kept, for its first try may have done it", [error.kept, error.status], [true, 503]);

  ({ fetch, asked } = standIn([200, { hold_id: "h", held_tokens: 5 }], [200, { hold_id: "h", consumed_tokens: 3 }]));
  client = new BillingClient({ baseUrl, fetch, ...options });
  await thrown(
    client.withHold("m", { tokens: 5 }, async (hold) => {
      hold.used({ outputTokens: 3 });
      throw new Error("cut");
    }),
  );
  same("settled", asked[1].body, '{"input_tokens":0,"output_tokens":3}');

  ({ fetch } = standIn([400, { detail: "Invalid receipt", code: "invalid_receipt" }]));
  error = await thrown(new BillingApiService(baseUrl, { fetch, ...options }).addCredits(1, { purchaseToken: "t" }));
  same("old code", [error.status, error.finishTransaction, error.name], [400, true, "PurchaseError"]);
}

app()
  .finally(() => {
    isOver = true;
  })
  .then(
    () => print("every call in Hermes: ok"),
    (error) => print(`FAILED: ${error.message}\n${error.stack}`),
  );
