// Google Play as far as the service asks it: access tokens and one-time purchases.

import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const APP = "com.example.noteapp";

export interface Sold {
  product: string;
  state: "PURCHASED" | "PENDING" | "CANCELLED";
  test?: boolean;
}

export class Google {
  readonly purchases = new Map<string, Sold>();
  /** Whether it answers with failures. */
  isDown = false;
  private readonly server: Server;

  private constructor() {
    this.server = createServer((request, response) => {
      const say = (status: number, body: object) => {
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
      };
      const url = request.url ?? "";
      request.resume();
      if (this.isDown) return say(503, { error: { code: 503 } });
      if (url === "/token") return say(200, { access_token: "stand-in", expires_in: 3599, token_type: "Bearer" });
      if (url.includes("/voidedpurchases")) return say(200, {});
      const token = decodeURIComponent(/\/tokens\/([^/:?]+)/.exec(url)?.[1] ?? "");
      const sold = this.purchases.get(token);
      if (sold === undefined) return say(404, { error: { code: 404, errors: [{ reason: "notFound" }] } });
      say(200, request.method === "GET" ? word(token, sold) : {});
    });
  }

  static async open(): Promise<Google> {
    const google = new Google();
    google.server.listen(0, "127.0.0.1");
    await once(google.server, "listening");
    return google;
  }

  /** A purchase under a token in Google's form. */
  sell(name: string, sold: Sold): string {
    const token = `abcdefghijklmnopqrstuvwx.AO-J1O${name.padEnd(113, "_")}`;
    this.purchases.set(token, sold);
    return token;
  }

  /** What has the service ask this store. */
  settings(): Record<string, string> {
    const address = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const file = join(mkdtempSync(join(tmpdir(), "google-")), "account.json");
    const account = {
      type: "service_account",
      private_key_id: "0123456789abcdef",
      private_key: privateKey.export({ type: "pkcs8", format: "pem" }),
      client_email: "billing@noteapp.example",
      token_uri: `${address}/token`,
    };
    writeFileSync(file, JSON.stringify(account));
    return {
      BILLING_RECEIPTS: "google",
      BILLING_GOOGLE_PACKAGE: APP,
      BILLING_GOOGLE_SERVICE_ACCOUNT: file,
      BILLING_GOOGLE_API_URL: address,
    };
  }

  async close(): Promise<void> {
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, "close");
  }
}

function word(token: string, { product, state, test }: Sold): object {
  const paid = state === "PURCHASED";
  const offer = {
    purchaseOptionId: "legacy-base",
    quantity: 1,
    refundableQuantity: paid ? 1 : 0,
    consumptionState: "CONSUMPTION_STATE_YET_TO_BE_CONSUMED",
  };
  return {
    kind: "androidpublisher#productPurchaseV2",
    productLineItem: [{ productId: product, productOfferDetails: offer }],
    purchaseStateContext: { purchaseState: state },
    regionCode: "JP",
    acknowledgementState: "ACKNOWLEDGEMENT_STATE_PENDING",
    ...(test ? { testPurchaseContext: { fopType: "TEST" } } : {}),
    ...(paid ? { purchaseCompletionTime: "2026-11-27T09:00:00.123Z", orderId: `GPA.${token.slice(31, 40)}` } : {}),
  };
}
