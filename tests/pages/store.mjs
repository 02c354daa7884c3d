// A stand-in for Google Play, as far as one purchase needs it: whoever asks gets an access token, and every purchase
// is paid. Which product it is of is said by its token.
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";

export const APP = "com.example.app";
/** A purchase's token in Google's form. */
export const tokenOf = (name) => `abcdefghijklmnopqrstuvwx.AO-J1O${name.padEnd(113, "_")}`;

/** Starts it; `keyFile` gets the key of the account that may ask. */
export async function startStore(keyFile, products) {
  const answer = (request) => {
    if (request.url === "/token") return { access_token: "ya29.stand-in", expires_in: 3600, token_type: "Bearer" };
    const name = Object.keys(products).find((name) => request.url.endsWith(encodeURIComponent(tokenOf(name))));
    if (!name) return {};
    return {
      kind: "androidpublisher#productPurchaseV2",
      productLineItem: [{
        productId: products[name],
        productOfferDetails: { purchaseOptionId: "legacy-base", quantity: 1, refundableQuantity: 1, consumptionState: "CONSUMPTION_STATE_YET_TO_BE_CONSUMED" },
      }],
      purchaseStateContext: { purchaseState: "PURCHASED" },
      regionCode: "JP",
      acknowledgementState: "ACKNOWLEDGEMENT_STATE_PENDING",
      orderId: `GPA.3312-4411-9921-${name.length}${name.charCodeAt(0)}`,
      purchaseCompletionTime: "2026-11-27T09:00:00.123Z",
    };
  };
  const server = createServer((request, response) => {
    request.resume();
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answer(request)));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const origin = `http://127.0.0.1:${server.address().port}`;
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  writeFileSync(keyFile, JSON.stringify({
    type: "service_account",
    project_id: "app",
    private_key_id: "0123456789abcdef",
    private_key: privateKey.export({ type: "pkcs8", format: "pem" }),
    client_email: "billing@app.iam.gserviceaccount.com",
    token_uri: `${origin}/token`,
  }));
  return { origin, stop: () => server.close() };
}
