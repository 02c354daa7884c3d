// The wallet on a screen.

import { act, create, type ReactTestRenderer } from "react-test-renderer";
import { expect, test, vi } from "vitest";
import type { Wallet } from "../src/index.ts";
import { useWallet, type WalletState } from "../src/react.ts";
import { Service } from "./harness/service.ts";

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

type Client = Parameters<typeof useWallet>[0];

/** What the screen shows. */
const view: { shown?: WalletState } = {};

function Screen({ client, intervalMs }: { client: Client; intervalMs?: number }) {
  view.shown = useWallet(client, { intervalMs });
  return null;
}

/** Opens a screen with the wallet on it. */
async function open(client: Client, intervalMs?: number) {
  let root: ReactTestRenderer | undefined;
  await act(async () => {
    root = create(<Screen client={client} intervalMs={intervalMs} />);
  });
  return {
    get shown() {
      return view.shown!;
    },
    close: () => act(async () => root?.unmount()),
  };
}

const empty = { totalTokens: 0, limitTokens: 0, freeTokens: 0 };
const wallet = (total: number): Wallet => ({
  credits: { total, bonus: 0 },
  tokens: {},
  categories: { quick: empty, think: empty },
  frozen: false,
});

/** A client whose answers the test gives, in the order it likes. */
function stub() {
  const listeners = new Set<() => void>();
  const asked: { answer: (wallet: Wallet) => void; fail: (error: Error) => void }[] = [];
  const client: Client = {
    wallet: () => new Promise((answer, fail) => asked.push({ answer, fail })),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return { client, asked, listeners };
}

test("it is read at first, after changes, and when asked", async () => {
  const { client, asked, listeners } = stub();
  const screen = await open(client);
  expect(screen.shown).toMatchObject({ wallet: null, error: null });
  await act(async () => asked[0]!.answer(wallet(1)));
  expect(screen.shown.wallet?.credits.total).toBe(1);
  await act(async () => {
    for (const listener of listeners) listener();
  });
  await act(async () => asked[1]!.answer(wallet(2)));
  expect(screen.shown.wallet?.credits.total).toBe(2);
  await act(async () => {
    screen.shown.refresh();
  });
  await act(async () => asked[2]!.fail(new Error("away")));
  expect(screen.shown).toMatchObject({ wallet: wallet(2), error: { message: "away" } });
  await screen.close();
  expect(listeners.size).toBe(0);
});

test("an answer that was overtaken is not shown", async () => {
  const { client, asked } = stub();
  const screen = await open(client);
  await act(async () => {
    screen.shown.refresh();
  });
  await act(async () => asked[1]!.answer(wallet(2)));
  await act(async () => asked[0]!.answer(wallet(1)));
  expect(screen.shown.wallet?.credits.total).toBe(2);
  await screen.close();
});

test("it is read again in intervals, and not when the screen is gone", async () => {
  vi.useFakeTimers();
  const { client, asked } = stub();
  const screen = await open(client, 1000);
  const same = wallet(1);
  await act(async () => asked[0]!.answer(same));
  await act(async () => {
    await vi.advanceTimersByTimeAsync(1000);
  });
  await act(async () => asked[1]!.answer(same));
  expect(screen.shown.wallet).toBe(same);
  await screen.close();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(asked.length).toBe(2);
  vi.useRealTimers();
});

test("it follows the service", async () => {
  const service = await Service.start();
  const client = service.client();
  const screen = await open(client);
  await vi.waitFor(() => expect(screen.shown.wallet?.credits.total).toBe(0));
  await act(async () => {
    await client.credits.add({ credits: 300, purchaseRecord: {} });
  });
  await vi.waitFor(() => expect(screen.shown.wallet?.credits.total).toBe(300));
  await screen.close();
  await service.stop();
});
