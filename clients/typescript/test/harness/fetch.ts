// A `fetch` with a connection for every request, so that a test knows which connection a request takes. What it gives
// is as little as the client asks for.

import { request } from "node:http";
import type { Fetch } from "../../src/index.ts";

export const fetchAlone: Fetch = (url, { method, headers, body, signal }) =>
  new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, signal, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      const whole = new Promise<string>((done, failed) => {
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => done(Buffer.concat(chunks).toString()));
        response.on("error", failed);
      });
      whole.catch(() => {});
      resolve({
        status: response.statusCode ?? 0,
        headers: { get: (name) => response.headersDistinct[name]?.join(", ") ?? null },
        text: () => whole,
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
