// Lists that come in pages: one page when it is awaited, all entries when it is iterated over.

import type { Answer } from "./transport.js";

/** Entries of a page unless told, as the service counts. */
const PAGE = 100;

/** Some entries, newest first. */
export interface Page<T> {
  items: T[];
  /** What to ask for as `before` to get the next page; `null` where this is the last. */
  nextBefore: number | null;
}

// Some engines of phones have no such symbol, and what is compiled for them looks for this name.
const asyncIterator: typeof Symbol.asyncIterator = (Symbol.asyncIterator ??
  "@@asyncIterator") as typeof Symbol.asyncIterator;

/** `await` it for the page that `limit` and `before` ask for, `for await` over it for that and all older entries. */
export class List<T extends { id: number }> implements PromiseLike<Page<T>>, AsyncIterable<T> {
  declare [Symbol.asyncIterator]: () => AsyncIterator<T>;
  private readonly load: (before?: number) => Promise<Page<T>>;
  private first: Promise<Page<T>> | undefined;

  constructor(load: (before?: number) => Promise<Page<T>>) {
    this.load = load;
    this[asyncIterator] = () => iterator(load);
  }

  /** The page asked for. */
  // biome-ignore lint/suspicious/noThenProperty: it is a promise of its first page
  then<A = Page<T>, B = never>(
    done?: ((page: Page<T>) => A | PromiseLike<A>) | null,
    failed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.first = this.first ?? this.load();
    return this.first.then(done, failed);
  }
}

/** Entry by entry. Written out, for the engines of phones know no asynchronous generators. */
function iterator<T>(load: (before?: number) => Promise<Page<T>>): AsyncIterator<T> {
  const at: { page?: Page<T>; next: number } = { next: 0 };
  return {
    next: async () => {
      let page = at.page ?? (await load());
      while (at.next >= page.items.length && page.nextBefore !== null) {
        page = await load(page.nextBefore);
        at.next = 0;
      }
      at.page = page;
      const value = page.items[at.next++];
      return value === undefined ? { done: true, value: undefined } : { done: false, value };
    },
  };
}

/** The page in an answer. */
export function pageOf<T extends { id: number }>(items: T[], answer: Answer, limit = PAGE): Page<T> {
  const link = answer.header("link");
  const named = link === null ? null : /[?&]before=(\d+)[^>]*>\s*;\s*rel="?next"?/.exec(link);
  // Where something on the way has dropped the header, a full page may not be the last.
  const full = link === null && items.length >= limit ? items[items.length - 1]?.id : undefined;
  return { items, nextBefore: named ? Number(named[1]) : (full ?? null) };
}
