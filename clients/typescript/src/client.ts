// The client: what each call sends, what it answers, and what becomes of changes that are not answered.

import { toCamel, toQuery, toSnake } from "./case.js";
import { ApiError, BillingError, ValidationError } from "./errors.js";
import { type RunningHold, withHold } from "./holds.js";
import { type ClientStorage, type Kept, Outbox } from "./outbox.js";
import { List, type Page, pageOf } from "./pages.js";
import { type PurchaseResult, purchaseName, purchaseResult } from "./purchases.js";
import { type Answer, type CallOptions, type Request, Transport, type TransportOptions } from "./transport.js";
import type * as t from "./types.js";

export interface ClientOptions extends TransportOptions {
  /** Where changes that got no answer are kept, to be sent again at the next start. */
  storage?: ClientStorage;
}

/** What became of a kept change. `error` is missing where it is done, `kept` says whether it will be sent again. */
export interface Resumed {
  path: string;
  idempotencyKey: string;
  error?: BillingError;
  kept: boolean;
}

interface PostRules {
  /** Whether it is worth sending after the app was closed; so unless told. */
  keep?: boolean;
  /** Whether the same request, asked for while one like it has no answer, is that one: a button that is pressed again. */
  joins?: boolean;
  /** What the store calls the purchase. */
  purchase?: string;
}

export class BillingClient {
  private readonly transport: Transport;
  private readonly outbox: Outbox;
  private readonly listeners = new Set<() => void>();
  /** Changes that are being made, by their keys. */
  private readonly underway = new Map<string, Pick<Kept, "owner" | "path" | "body"> & { answer: Promise<Answer> }>();
  private seen: { owner: string; etag: string; wallet: t.Wallet } | undefined;
  private resuming: Promise<Resumed[]> | undefined;

  constructor(options: ClientOptions) {
    this.transport = new Transport(options);
    this.outbox = new Outbox(options.storage);
    if (this.outbox.lasting) this.resume().catch(() => {});
  }

  /** Credits, tokens by model and room by category; not read again while it is as it was. */
  async wallet(options?: CallOptions): Promise<t.Wallet> {
    const left = this.timeLeft(options);
    const owner = await this.owner(options);
    const seen = this.seen?.owner === owner ? this.seen : undefined;
    const headers: Record<string, string> = seen === undefined ? {} : { "If-None-Match": seen.etag };
    const answer = await this.transport.send({ method: "GET", path: "/wallet", headers }, left());
    if (answer.status === 304 && seen !== undefined) return seen.wallet;
    const wallet = toCamel(answer.body) as t.Wallet;
    const etag = answer.header("etag");
    this.seen = etag === null ? undefined : { owner, etag, wallet };
    return wallet;
  }

  balance(options?: CallOptions): Promise<t.Balance> {
    return this.get("/balance", options);
  }

  /** All tokens of a category together. */
  categoryTotal(category: t.Category, options?: CallOptions): Promise<t.CategoryTotal> {
    return this.get(`/balance/category/${encodeURIComponent(category)}`, options);
  }

  pricing(options?: CallOptions): Promise<t.Pricing> {
    return this.get("/pricing", options, true);
  }

  products(options?: CallOptions): Promise<t.Products> {
    return this.get("/products", options, true);
  }

  /** What an allocation would buy, the most that could be, and why it would be refused. */
  quote(params: t.QuoteParams, options?: CallOptions): Promise<t.Quote> {
    return this.get(`/quote${toQuery(params)}`, options);
  }

  usage(params: t.UsageParams, options?: CallOptions): Promise<t.Usage> {
    return this.get(`/usage${toQuery(params)}`, options);
  }

  health(options?: CallOptions): Promise<t.Health> {
    return this.get("/health", options);
  }

  /** Whether Apple may be told how a refunded purchase was used. */
  consent(params: t.ConsentParams, options?: CallOptions): Promise<t.Success> {
    return this.post("/consent", params, options);
  }

  /** Forgets all of the user's data, where the service allows it. */
  reset(options?: CallOptions): Promise<t.Success> {
    return this.post("/reset", undefined, options, { keep: false });
  }

  readonly credits = {
    /** Brings a purchase. It never fails: the answer says whether the store's transaction may be finished. */
    add: (params: t.AddParams, options?: CallOptions): Promise<PurchaseResult> =>
      purchaseResult(() =>
        this.change("/credits/add", params, options, { joins: true, purchase: purchaseName(params.purchaseRecord) }),
      ),
    /** Turns credits into tokens: all items, or none. */
    allocate: (params: t.AllocateParams, options?: CallOptions): Promise<t.Success> =>
      this.post("/credits/allocate", params, options, { joins: true }),
    /** Turns all unused tokens of a model back into credits. */
    return: (params: t.ReturnParams, options?: CallOptions): Promise<t.Returned> =>
      this.post("/credits/return", params, options, { joins: true }),
  };

  readonly tokens = {
    /** What a chat used leaves the model's balance. */
    consume: (params: t.ConsumeParams, options?: CallOptions): Promise<t.Consumed & { transactionId: number | null }> =>
      this.change("/tokens/consume", params, options).then((answer) => ({
        ...(toCamel(answer.body) as t.Consumed),
        transactionId: Number(answer.header("billing-transaction")) || null,
      })),
    /** A consumption comes back, in whole or in part. For backends. */
    reverse: (params: t.ReverseParams, options?: CallOptions): Promise<t.Reversed> =>
      this.post("/tokens/reverse", params, options),
  };

  readonly holds = {
    /** Reserves tokens for an answer that is not known yet. */
    create: (params: t.HoldParams, options?: CallOptions): Promise<t.Hold> =>
      // One that nobody waits for any more would only be in the way; it ends by itself.
      this.post("/holds", params, options, { keep: false }),
    /** Consumes what was used, and gives back the rest. */
    settle: (holdId: string, used: t.Used, options?: CallOptions): Promise<t.Settled> => {
      const { inputTokens, outputTokens } = used;
      return this.post(`/holds/${encodeURIComponent(holdId)}/settle`, { inputTokens, outputTokens }, options);
    },
    /** Gives all of it back. */
    release: (holdId: string, options?: CallOptions): Promise<t.Released> =>
      this.post(`/holds/${encodeURIComponent(holdId)}/release`, {}, options),
    /** The open ones, oldest first. */
    list: (options?: CallOptions): Promise<t.Hold[]> => this.get("/holds", options),
    /** One, open or closed. */
    get: (holdId: string, options?: CallOptions): Promise<t.Hold> =>
      this.get(`/holds/${encodeURIComponent(holdId)}`, options),
  };

  readonly transactions = {
    /** The history, newest first. */
    list: (params: t.ListParams = {}, options?: CallOptions): List<t.Transaction> =>
      this.list("/transactions", params, options, (body) => body as t.Transaction[]),
  };

  readonly ledger = {
    /** Every entry with all that it changed, newest first. */
    list: (params: t.ListParams = {}, options?: CallOptions): List<t.LedgerEntry> =>
      this.list("/ledger", params, options, (body) => (body as t.Ledger).items),
  };

  /**
   * Reserves tokens, runs `work`, and settles with what it returns. When `work` throws, what it had reported with
   * `hold.used` is settled, or the hold released where that is nothing, and the error thrown on.
   */
  withHold<U extends t.Used>(
    model: string,
    params: Omit<t.HoldParams, "modelId">,
    work: (hold: RunningHold) => Promise<U>,
    options?: CallOptions,
  ): Promise<t.Settled & { usage: U }> {
    return withHold(this, model, params, work, options);
  }

  /** Calls `listener` after every change that this client made; what is returned ends that. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  }

  /**
   * Sends what is kept again, oldest first, and tells what became of it. A client with `storage` does so when it is
   * made; call it when the connection is back, or when somebody has logged in.
   */
  resume(): Promise<Resumed[]> {
    if (this.resuming === undefined) {
      this.resuming = this.sendKept().finally(() => {
        this.resuming = undefined;
      });
    }
    return this.resuming;
  }

  private async sendKept(): Promise<Resumed[]> {
    const all = await this.outbox.list();
    const owner = all.length === 0 ? "" : await this.owner();
    const resumed: Resumed[] = [];
    for (const kept of all) {
      if (kept.owner !== owner || this.underway.has(kept.key)) continue;
      const outcome: Resumed = { path: kept.path, idempotencyKey: kept.key, kept: false };
      resumed.push(outcome);
      try {
        await this.transport.send(requestOf(kept));
        await this.outbox.drop(kept.key);
        this.changed();
      } catch (error) {
        if (!(error instanceof BillingError)) throw error;
        // An earlier try may have had its effect, so only a decision ends it.
        outcome.error = error;
        outcome.kept = !isDecided(error);
        if (!outcome.kept) await this.outbox.drop(kept.key);
        else if (!(error instanceof ApiError)) break;
      }
    }
    return resumed;
  }

  private async get<T>(path: string, options?: CallOptions, isMap = false): Promise<T> {
    const answer = await this.transport.send({ method: "GET", path }, options);
    return toCamel(answer.body, isMap) as T;
  }

  private list<T extends { id: number }>(
    path: string,
    params: t.ListParams,
    options: CallOptions | undefined,
    items: (body: unknown) => T[],
  ): List<T> {
    return new List<T>(async (before): Promise<Page<T>> => {
      const query = toQuery(before === undefined ? params : { ...params, before });
      const answer = await this.transport.send({ method: "GET", path: path + query }, options);
      return pageOf(items(toCamel(answer.body)), answer, params.limit);
    });
  }

  private async post<T>(path: string, params: unknown, options?: CallOptions, rules?: PostRules): Promise<T> {
    return toCamel((await this.change(path, params, options, rules)).body) as T;
  }

  /** Makes a change, or waits for the same one where that is being made. */
  private async change(
    path: string,
    params: unknown,
    options: CallOptions = {},
    rules: PostRules = {},
  ): Promise<Answer> {
    const body = params === undefined ? "" : JSON.stringify(toSnake(params));
    const left = this.timeLeft(options);
    const owner = await this.owner(options);
    const joins = rules.joins === true && options.idempotencyKey === undefined;
    const unanswered = joins ? await this.outbox.list() : [];
    // Nothing is awaited from here until it is under way: two presses at once would each take themselves for the first.
    const isSame = (one: Pick<Kept, "owner" | "path" | "body">) =>
      joins && one.owner === owner && one.path === path && one.body === body;
    const twin = [...this.underway.values()].find(isSame);
    if (twin !== undefined) return twin.answer;
    const before = unanswered.find(
      (one) =>
        isSame(one) ||
        (rules.purchase !== undefined &&
          one.purchase === rules.purchase &&
          one.owner === owner &&
          !this.underway.has(one.key)),
    );
    const same = before !== undefined && isSame(before) ? before : undefined;
    const kept: Kept = {
      key: options.idempotencyKey ?? same?.key ?? newKey(),
      owner,
      path,
      body,
      at: same?.at ?? Date.now(),
      ...(rules.purchase === undefined ? {} : { purchase: rules.purchase }),
    };
    const answer = this.make(kept, before, left, rules);
    this.underway.set(kept.key, { owner, path, body, answer });
    return answer.finally(() => this.underway.delete(kept.key));
  }

  /** Makes a change under a key that is kept until it is known what became of it; `before` is what it takes the place of. */
  private async make(kept: Kept, before: Kept | undefined, left: () => CallOptions, rules: PostRules): Promise<Answer> {
    // Without a storage only a second press is of use.
    const isKept = rules.keep !== false && (this.outbox.lasting || rules.joins) && (await this.outbox.keep(kept));
    // The store has more names for the purchase by now: it is the same one.
    if (before !== undefined && before.key !== kept.key) await this.outbox.drop(before.key);
    const answer = await this.transport.send(requestOf(kept), left()).catch(async (error) => {
      if (!(error instanceof BillingError)) throw error;
      error.idempotencyKey = kept.key;
      const isOpen = error.mayHaveHappened || before?.key === kept.key || rules.purchase !== undefined;
      if (isOpen && !isDecided(error)) error.kept = isKept === true && this.outbox.lasting;
      else await this.outbox.drop(kept.key);
      throw error;
    });
    await this.outbox.drop(kept.key);
    this.changed();
    return { ...answer, repeated: answer.repeated || before !== undefined };
  }

  /** Who asks, and whom: what is kept is sent again for nobody else. */
  private async owner(options?: CallOptions): Promise<string> {
    return [this.transport.baseUrl, await this.transport.account(options)].join(" ");
  }

  /** The options again, with the time that is left since now. */
  private timeLeft(options?: CallOptions): () => CallOptions {
    const timeoutMs = this.transport.timeoutMs(options?.timeoutMs);
    const begun = Date.now();
    // A clock that is set back gives nobody more time.
    return () => ({ ...options, timeoutMs: Math.min(timeoutMs, begun + timeoutMs - Date.now()) });
  }

  private changed(): void {
    // Not within the call that made it: what a listener throws is not the call's.
    for (const listener of [...this.listeners]) void Promise.resolve().then(listener);
  }
}

function requestOf({ path, body, key }: Kept): Request {
  const proof = path === "/credits/add" ? "new_balance" : path.startsWith("/holds") ? "hold_id" : "success";
  return { method: "POST", path, ...(body === "" ? {} : { body }), headers: { "Idempotency-Key": key }, proof };
}

/** Whether the service has decided, and will say the same the next time. */
function isDecided(error: BillingError): boolean {
  // Whoever refuses without a word is not the service.
  if (!(error instanceof ApiError) || (error.detail === null && !(error instanceof ValidationError))) return false;
  return error.status < 500 && ![401, 403, 408, 429].includes(error.status);
}

/** A key that nobody has used: the time, and 100 bits of chance. */
function newKey(): string {
  const part = () => Math.random().toString(36).slice(2, 12);
  return `${Date.now().toString(36)}-${part()}${part()}`;
}
