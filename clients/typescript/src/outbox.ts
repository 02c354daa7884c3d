// What was sent and not answered, kept so that it can be sent again under its key: in the app's storage, or, without
// one, for as long as the client lives. It sends nothing itself.

/** Where an app keeps things: AsyncStorage as it is, others by an object of three lines. */
export interface ClientStorage {
  getItem(name: string): Promise<string | null | undefined> | string | null | undefined;
  setItem(name: string, value: string): unknown;
  removeItem(name: string): unknown;
}

/** A request that may not have been answered. */
export interface Kept {
  /** Its `Idempotency-Key`. */
  key: string;
  /** Whose it is: the service, the account and the login. Nobody else may send it. */
  owner: string;
  path: string;
  /** JSON. */
  body: string;
  /** When it was first sent, in milliseconds since 1970. */
  at: number;
  /** What the store calls the purchase, where it is one: it is kept until it is decided. */
  purchase?: string;
}

/** What the storage calls it. */
const NAME = "token-billing:unanswered";
const MAX_KEPT = 100;
/** The service knows a key for at least seven days. After that the same request would be a new one. */
const KEPT_MS = 6 * 24 * 60 * 60 * 1000;

/** One change of a storage after the other, also where two clients have it. */
const tails = new WeakMap<ClientStorage, Promise<unknown>>();

export class Outbox {
  private readonly storage: ClientStorage;
  private held: string | null = null;
  /** Whether it outlives the client. */
  readonly lasting: boolean;

  constructor(storage?: ClientStorage) {
    this.lasting = storage !== undefined;
    this.storage = storage ?? {
      getItem: () => this.held,
      setItem: (_, value) => {
        this.held = value;
      },
      removeItem: () => {
        this.held = null;
      },
    };
  }

  /** What is kept, oldest first. Empty where the storage can't be read. */
  async list(): Promise<Kept[]> {
    await tails.get(this.storage);
    return this.read().catch(() => []);
  }

  /** Keeps a request, in place of what has its key. Whether that was possible. */
  keep(request: Kept): Promise<boolean> {
    return this.change((all) => {
      const others = all.filter(({ key }) => key !== request.key);
      return others.length < MAX_KEPT ? [...others, request] : all;
    });
  }

  /** Forgets a request. */
  drop(key: string): Promise<boolean> {
    return this.change((all) => all.filter((kept) => kept.key !== key));
  }

  private change(how: (all: Kept[]) => Kept[]): Promise<boolean> {
    const done = (tails.get(this.storage) ?? Promise.resolve()).then(async () => {
      try {
        const before = await this.read();
        const after = how(before);
        if (after.length > 0) await this.storage.setItem(NAME, JSON.stringify(after));
        else await this.storage.removeItem(NAME);
        return after !== before;
      } catch {
        return false;
      }
    });
    tails.set(this.storage, done);
    return done;
  }

  /** Fails where the storage can't be read: what is in it must not be written over. */
  private async read(): Promise<Kept[]> {
    const text = (await this.storage.getItem(NAME)) ?? "[]";
    try {
      const all: unknown = JSON.parse(text);
      return Array.isArray(all) ? all.filter(isUsable) : [];
    } catch {
      return [];
    }
  }
}

/** Whether the service still knows its key. A purchase is known by its own names. */
function isUsable(kept: Kept): boolean {
  return kept.purchase !== undefined || Math.abs(Date.now() - kept.at) < KEPT_MS;
}
