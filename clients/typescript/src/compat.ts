// `BillingApiService` as apps know it: the same methods, names and arguments, on top of the client. New calls don't
// belong here.

import { BillingClient, type ClientOptions } from "./client.js";
import { ApiError, BillingError } from "./errors.js";
import type { Category, Pricing } from "./types.js";

export interface TokenBalance {
  credits: number;
  allocatedTokens: Record<string, number>;
}

export interface PurchaseRecord {
  productId: string;
  purchaseToken: string;
  transactionId: string;
  purchaseDate: string;
  amount: number;
  creditsAdded: number;
}

export interface Allocation {
  modelId: string;
  credits: number;
}

export interface Transaction {
  id: number;
  type: string;
  amount: number;
  modelId?: string;
  createdAt: string;
}

export interface PricingInfo {
  pricePerMToken: number;
  category: Category;
}

export interface PricingResponse {
  pricing: Record<string, PricingInfo>;
}

export interface ConsumeTokensResponse {
  success: boolean;
  remainingTokens: number;
}

export interface CategoryBalanceResponse {
  category: string;
  totalTokens: number;
}

/** How a purchase ended that was not granted. Its text and `status` make old code do what `finishTransaction` says. */
export class PurchaseError extends Error {
  /** 400 where it can never become valid, else missing: old code finishes a purchase on 400 and 409. */
  readonly status: number | undefined;
  /** Whether the store's transaction may be finished. */
  readonly finishTransaction: boolean;
  readonly cause: BillingError;

  constructor(cause: BillingError, finishTransaction: boolean) {
    super(finishTransaction ? `${cause.message} (Invalid receipt)` : closesNothing(cause.message));
    Object.setPrototypeOf(this, new.target.prototype);
    this.status = finishTransaction ? 400 : undefined;
    this.finishTransaction = finishTransaction;
    this.cause = cause;
  }
}
PurchaseError.prototype.name = "PurchaseError";

/** A text that old code can't take for the end of a purchase. */
function closesNothing(text: string): string {
  return /40[09]|already processed|Invalid receipt/.test(text) ? "購入の確認を続けています" : text;
}

export class BillingApiService {
  /** What it stands on, for everything that is new. */
  readonly client: BillingClient;

  constructor(baseUrl: string, options: Omit<ClientOptions, "baseUrl"> = {}) {
    this.client = new BillingClient({ ...options, baseUrl });
  }

  getBalance(): Promise<TokenBalance> {
    return this.client.balance();
  }

  /** Returns where the purchase may be finished because somebody has the credits; throws a `PurchaseError` elsewhere. */
  async addCredits(credits: number, purchaseRecord: PurchaseRecord): Promise<void> {
    const result = await this.client.credits.add({ credits, purchaseRecord: { ...purchaseRecord } });
    if ("error" in result) throw new PurchaseError(result.error, result.finishTransaction);
  }

  async allocateCredits(allocations: Allocation[]): Promise<void> {
    const items = allocations.map(({ modelId, credits }) => ({ modelId, credits }));
    await this.client.credits.allocate({ allocations: items });
  }

  async consumeTokens(modelId: string, inputTokens: number, outputTokens: number): Promise<ConsumeTokensResponse> {
    const { success, remainingTokens } = await this.client.tokens.consume({ modelId, inputTokens, outputTokens });
    return { success, remainingTokens };
  }

  /** The newest, 1 to 1000 of them. */
  async getTransactions(limit = 100): Promise<Transaction[]> {
    const { items } = await this.client.transactions.list({ limit });
    return items.map(({ modelId, ...line }) => (modelId === null ? line : { ...line, modelId }));
  }

  async getPricing(): Promise<PricingResponse> {
    const pricing: Pricing = await this.client.pricing();
    return { pricing };
  }

  async getCategoryBalance(category: Category): Promise<number> {
    return (await this.client.categoryTotal(category)).totalTokens;
  }

  async resetAllData(): Promise<void> {
    await this.client.reset();
  }
}

let service: BillingApiService | null = null;

/** Makes the app's one service, at its start. Made once; later calls change nothing. */
export function initBillingApiService(backendUrl: string, options?: Omit<ClientOptions, "baseUrl">): void {
  service = service ?? new BillingApiService(backendUrl, options);
}

/** The app's service. Throws before `initBillingApiService`. */
export function getBillingApiService(): BillingApiService {
  if (service === null) throw new Error("BillingApiService is not initialized: call initBillingApiService() first");
  return service;
}

export function isBillingApiServiceInitialized(): boolean {
  return service !== null;
}

export { ApiError, BillingError };
