// The wallet on a screen. Nothing else of React belongs here.

import { useCallback, useEffect, useRef, useState } from "react";
import type { BillingClient } from "./client.js";
import { later } from "./platform.js";
import type { Wallet } from "./types.js";

const INTERVAL_MS = 30_000;

export interface WalletState {
  /** The newest that is known; `null` before the first answer. */
  wallet: Wallet | null;
  /** Why the newest could not be read; `null` where it could. */
  error: unknown;
  /** Reads it now; done when it is answered. */
  refresh: () => Promise<void>;
}

/** The user's wallet: read now, after every change that `client` makes, and every `intervalMs` (30 s unless told). */
export function useWallet(
  client: Pick<BillingClient, "wallet" | "onChange">,
  { intervalMs = INTERVAL_MS }: { intervalMs?: number } = {},
): WalletState {
  const [known, setKnown] = useState<Pick<WalletState, "wallet" | "error">>({ wallet: null, error: null });
  const read = useRef<() => Promise<void>>(async () => {});
  useEffect(() => {
    const state = { newest: 0, callOff: () => {} };
    const load = async () => {
      state.callOff();
      state.newest += 1;
      const mine = state.newest;
      // An answer that was overtaken by a later question is old.
      const tell = (next: (before: typeof known) => typeof known) => mine === state.newest && setKnown(next);
      try {
        const wallet = await client.wallet();
        tell((before) => (before.wallet === wallet && before.error === null ? before : { wallet, error: null }));
      } catch (error) {
        tell(({ wallet }) => ({ wallet, error }));
      }
      if (mine === state.newest) state.callOff = later(intervalMs, load);
    };
    read.current = load;
    const end = client.onChange(load);
    // Another client is another account.
    setKnown((before) => (before.wallet === null && before.error === null ? before : { wallet: null, error: null }));
    load();
    return () => {
      state.newest = -1;
      state.callOff();
      end();
    };
  }, [client, intervalMs]);
  const refresh = useCallback(() => read.current(), []);
  return { ...known, refresh };
}
