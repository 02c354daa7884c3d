// Connections that break at any byte, in either direction, and apps that are killed at any time: every change that
// somebody wanted happens exactly once, by the service's own history.
//
// CLIENT_ROUNDS says how many rounds (100 unless told), CLIENT_SEED makes them those of another run.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { BillingClient } from "../src/index.ts";
import { fetchAlone } from "./harness/fetch.ts";
import { BadNetwork, type Fate } from "./harness/network.ts";
import { Phone } from "./harness/phone.ts";
import { LOGINS, Service } from "./harness/service.ts";

const FLASH = "gemini-2.0-flash";
const ROUNDS = Number(process.env.CLIENT_ROUNDS ?? 100);
const SEED = Number(process.env.CLIENT_SEED ?? Date.now() % 1_000_000);
const AT_ONCE = 20;
const CHANGES = 6;
/** About as many bytes as a request or an answer has. */
const BYTES = 700;

let service: Service;
beforeAll(async () => {
  service = await Service.start(LOGINS);
});
afterAll(() => service.stop());

/** Chance that repeats itself: the same numbers for the same seed. */
function chance(seed: number) {
  let state = seed | 0;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { below: (limit: number) => Math.floor(next() * limit), is: (probability: number) => next() < probability };
}

type Dice = ReturnType<typeof chance>;

function fate(dice: Dice): Fate {
  const reset = dice.is(0.5);
  if (dice.is(0.45)) return {};
  if (dice.is(0.45)) return { cutAnswerAt: dice.below(BYTES), reset };
  if (dice.is(0.8)) return { cutRequestAt: dice.below(BYTES), reset };
  return dice.is(0.8) ? { refuse: true } : { hang: true };
}

/** What somebody wants: a line of the history that there has to be once, and that no other change makes. */
interface Wanted {
  type: string;
  amount: number;
  /** What is in storage where the client has taken it on. */
  mark: string;
  /** Whether wanting it again is wanting the same. */
  joins: boolean;
  run(app: BillingClient): Promise<unknown>;
}

function wanted(index: number, dice: Dice): Wanted {
  const kind = dice.below(4);
  if (kind === 0) {
    const amount = 1000 + index;
    const purchaseRecord = { transactionId: `GPA.${dice.below(1e9)}.${dice.below(1e9)}` };
    const run = (app: BillingClient) =>
      app.credits.add({ credits: amount, purchaseRecord }).then((result) => {
        if (!result.finishTransaction) throw result.error;
      });
    return { type: "purchase", amount, mark: purchaseRecord.transactionId, joins: true, run };
  }
  if (kind === 1) {
    const amount = 2 + index;
    const run = (app: BillingClient) => app.credits.allocate({ allocations: [{ modelId: FLASH, credits: amount }] });
    return { type: "allocation", amount, mark: `\\"credits\\":${amount}}`, joins: true, run };
  }
  const amount = 500 + index;
  const used = { modelId: FLASH, inputTokens: amount - 100, outputTokens: 100 };
  const run = (app: BillingClient) => app.tokens.consume(used);
  return { type: "consumption", amount, mark: `\\"input_tokens\\":${amount - 100},`, joins: false, run };
}

async function round(seed: number): Promise<void> {
  const dice = chance(seed);
  const user = `user-${seed}`;
  const direct = service.as(user);
  await direct.credits.add({ credits: 5000, purchaseRecord: { transactionId: `GPA.${user}` } });
  await direct.credits.allocate({ allocations: [{ modelId: FLASH, credits: 75 }] });
  const proxy = await BadNetwork.before(() => service.port);
  proxy.fate = () => fate(dice);
  const phone = new Phone();
  const fetch = dice.is(0.5) ? fetchAlone : globalThis.fetch;
  const limits = { maxRetries: dice.below(2), timeoutMs: 1500 };
  const start = () => service.as(user, { baseUrl: proxy.url, ...phone.start(fetch), ...limits });
  let app = start();
  const changes = Array.from({ length: CHANGES }, (_, index) => wanted(index, dice));
  for (const change of changes) {
    for (;;) {
      const ended = change.run(app).then(
        () => "done",
        (error) => {
          expect(error, `seed ${seed}`).toMatchObject({ kept: true });
          return "kept";
        },
      );
      // Some hit the button twice.
      if (change.joins && dice.is(0.3)) change.run(app).catch(() => {});
      const killed = new Promise<"killed">((resolve) => setTimeout(resolve, dice.below(12), "killed"));
      const how = dice.is(0.4) ? await Promise.race([ended, killed]) : await ended;
      if (how === "killed") {
        phone.kill();
        app = start();
      }
      // Whoever is told nothing presses again, and so does who is told of a bad connection.
      const isTaken = phone.written.some((text) => text.includes(change.mark));
      if (how === "done" || (isTaken && !(change.joins && phone.kept > 0 && dice.is(0.3)))) break;
    }
  }
  proxy.fate = () => ({});
  for (let time = 0; phone.kept > 0 && time < 5; time++) {
    phone.kill();
    app = start();
    await app.resume();
  }
  expect(phone.kept, `seed ${seed}`).toBe(0);
  const history: string[] = [];
  for await (const { type, amount } of direct.transactions.list()) history.push(`${type} ${amount}`);
  const all = [{ type: "purchase", amount: 5000 }, { type: "allocation", amount: 75 }, ...changes];
  expect(history.sort(), `seed ${seed}`).toEqual(all.map(({ type, amount }) => `${type} ${amount}`).sort());
  phone.kill();
  await proxy.close();
}

test(
  `${ROUNDS} rounds from seed ${SEED}`,
  async () => {
    let next = 0;
    const worker = async () => {
      while (next < ROUNDS) {
        next += 1;
        await round(SEED + next);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  },
  60_000 + ROUNDS * 2_000,
);
