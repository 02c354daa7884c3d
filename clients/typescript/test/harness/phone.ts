// A phone: storage that outlives the app, and an app that can be killed at any moment.

import type { ClientStorage, Fetch } from "../../src/index.ts";

export class Phone {
  /** What the storage holds. */
  readonly items = new Map<string, string>();
  /** Everything that it ever held. */
  readonly written: string[] = [];
  private app = 0;

  /** What a newly started app gets. Once it is killed it changes nothing any more, and hears of nothing. */
  start(fetch: Fetch = globalThis.fetch): { storage: ClientStorage; fetch: Fetch } {
    this.app += 1;
    const mine = this.app;
    const alive = () => this.app === mine;
    const never = new Promise<never>(() => {});
    return {
      storage: {
        // Neither of them is done at once.
        getItem: async (name) => {
          await null;
          return alive() ? (this.items.get(name) ?? null) : never;
        },
        setItem: async (name, value) => {
          await null;
          if (!alive()) return never;
          this.items.set(name, value);
          this.written.push(value);
        },
        removeItem: async (name) => {
          await null;
          if (!alive()) return never;
          this.items.delete(name);
        },
      },
      fetch: async (url, init) => {
        if (!alive()) return never;
        const response = await fetch(url, init).catch((error) => {
          if (alive()) throw error;
          return never;
        });
        return alive() ? response : never;
      },
    };
  }

  /** Ends the app. */
  kill(): void {
    this.app += 1;
  }

  /** How many requests are kept. */
  get kept(): number {
    return JSON.parse(this.items.get("token-billing:unanswered") ?? "[]").length;
  }
}
