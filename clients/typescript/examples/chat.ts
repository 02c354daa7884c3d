// A chat app in one file: buy, quote, allocate, a streamed chat on a hold, history. It needs a service that believes
// purchases (`token-billing`, with nothing set) and no login:
//
//     npm run build && npm run --silent example http://127.0.0.1:8000
//
// (Node 22.18 and later run it as it is: `node examples/chat.ts`.)

import { BillingClient, type Used } from "token-billing-client";

const MODEL = "gemini-2.0-flash";
const client = new BillingClient({ baseUrl: process.argv[2] ?? "http://127.0.0.1:8000", language: "en" });

/** What a model would stream: text, and from time to time what it has cost so far. */
async function* stream(question: string): AsyncGenerator<{ text: string; used: Used }> {
  const words = `You asked: ${question} I say: ask me something harder.`.split(" ");
  for (const [index, text] of words.entries()) yield { text, used: { inputTokens: 12, outputTokens: index + 1 } };
}

/** Answers a question. Tokens are reserved before, and what the answer took is settled after, cut short or not. */
async function chat(question: string): Promise<void> {
  const answer: string[] = [];
  const done = await client.withHold(MODEL, { tokens: 4000, minTokens: 100 }, async (hold) => {
    let used: Used = { inputTokens: 0, outputTokens: 0 };
    for await (const part of stream(question)) {
      answer.push(part.text);
      used = part.used;
      hold.used(used);
    }
    return used;
  });
  console.log(`chat: ${answer.join(" ")}`);
  console.log(`chat: ${done.consumedTokens} tokens, ${done.remainingTokens} left`);
}

const productId = "noteapp.credits.small";
const { credits } = (await client.products())[productId]!;
const purchase = await client.credits.add({
  credits,
  purchaseRecord: { productId, transactionId: `GPA.example.${Date.now()}` },
});
console.log(`buy: ${purchase.status}, the store's transaction may be finished: ${purchase.finishTransaction}`);

const quote = await client.quote({ modelId: MODEL, credits: 150 });
console.log(`quote: ${quote.credits} credits buy ${quote.tokens} tokens, at most ${quote.maxCredits} credits fit`);
await client.credits.allocate({ allocations: [{ modelId: MODEL, credits: quote.credits }] });

await chat("What is a ledger?");

for await (const { type, amount, modelId } of client.transactions.list()) {
  console.log(`history: ${type} of ${amount}${modelId === null ? "" : ` for ${modelId}`}`);
}
