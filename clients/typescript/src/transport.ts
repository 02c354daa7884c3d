// Sends requests: headers, time limits, tries. It knows no endpoint and keeps nothing.

import {
  AbortedError,
  BillingError,
  ConnectionError,
  errorOf,
  type Language,
  sentence,
  TimeoutError,
} from "./errors.js";
import { type AbortSignalLike, abortController, type Fetch, later, platformFetch } from "./platform.js";

const TIMEOUT_MS = 10_000;
const MAX_RETRIES = 2;
/** The pause before the second try, which doubles from try to try. */
const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 5_000;

/** What a client is made with. */
export interface TransportOptions {
  /** The service's address, such as `https://billing.example`. */
  baseUrl: string;
  /** The login's access token, or where to get today's. */
  token?: string | (() => Promise<string | null | undefined> | string | null | undefined);
  /** Whose account it is, where a backend asks for somebody else. */
  user?: string;
  /** The platform's unless told. */
  fetch?: Fetch;
  /** The language of texts for people; the service's own unless told, and Japanese for the client's. */
  language?: Language;
  /** How long a call may take in all, with its pauses and tries: 10 s unless told. */
  timeoutMs?: number;
  /** How often a call is tried again: twice unless told. */
  maxRetries?: number;
}

/** What can be said of each call. */
export interface CallOptions {
  /** Ends the wait. */
  signal?: AbortSignalLike;
  /** A key of the caller's own for what is to happen once, 1 to 255 visible ASCII characters. */
  idempotencyKey?: string;
  timeoutMs?: number;
  maxRetries?: number;
}

export interface Request {
  method: "GET" | "POST";
  /** Below `/api/billing`, with its query. */
  path: string;
  /** JSON. */
  body?: string;
  headers?: Record<string, string>;
  /** A field that every success has: a portal or a proxy may say 200 too, and must not be taken for the service. */
  proof?: string;
}

export interface Answer {
  status: number;
  header(name: string): string | null;
  /** What it says; `undefined` where it says nothing. */
  body: unknown;
  /** Whether an earlier try may have had its effect. */
  repeated: boolean;
}

export class Transport {
  readonly language: Language;
  readonly baseUrl: string;
  private readonly options: TransportOptions;

  constructor(options: TransportOptions) {
    this.options = options;
    this.baseUrl = options.baseUrl.replace(/\/+$/, "");
    this.language = options.language ?? "ja";
  }

  /** Whose account requests are for, so that two of them can be told apart; without a login, nobody's in particular. */
  async account({ timeoutMs, signal }: CallOptions = {}): Promise<string> {
    const token = await this.wait(() => this.token(), this.timeoutMs(timeoutMs), signal);
    return JSON.stringify([this.options.user ?? null, subject(token)]);
  }

  /** How long a call may take that asked for so long. */
  timeoutMs(asked?: number): number {
    return asked ?? this.options.timeoutMs ?? TIMEOUT_MS;
  }

  /** Today's token. Where it can't be had, nothing can be sent. */
  private async token(): Promise<string> {
    const { token } = this.options;
    try {
      return (typeof token === "function" ? await token() : token) ?? "";
    } catch (error) {
      throw new ConnectionError(sentence("connection", this.language), error);
    }
  }

  /** Sends a request until it is answered for good, in the time that it has. */
  async send(request: Request, options: CallOptions = {}): Promise<Answer> {
    const timeoutMs = this.timeoutMs(options.timeoutMs);
    const maxRetries = options.maxRetries ?? this.options.maxRetries ?? MAX_RETRIES;
    const deadline = Date.now() + timeoutMs;
    // A clock that is set back gives nobody more time.
    const left = () => Math.min(timeoutMs, deadline - Date.now());
    // An object here and below: Hermes' optimizer forgets in `catch` what was assigned to a variable that a closure has.
    const state = { repeated: false };
    for (let tries = 0; ; tries++) {
      try {
        return { ...(await this.once(request, Math.max(0, left()), options.signal)), ...state };
      } catch (error) {
        if (!(error instanceof BillingError)) throw error;
        state.repeated = request.method === "POST" && (state.repeated || error.mayHaveHappened);
        error.mayHaveHappened = state.repeated;
        const asked = "retryAfterMs" in error ? ((error.retryAfterMs as number | null) ?? 0) : 0;
        const pause = Math.max(asked, pauseMs(tries));
        if (!error.retryable || tries >= maxRetries || pause >= left()) throw error;
        await this.wait(() => new Promise<void>((resolve) => later(pause, resolve)), left(), options.signal).catch(
          (ended) => {
            ended.mayHaveHappened = state.repeated;
            throw ended;
          },
        );
      }
    }
  }

  /** One try. */
  private async once(request: Request, ms: number, signal?: AbortSignalLike): Promise<Omit<Answer, "repeated">> {
    // Only a change can have happened, and only once it was sent.
    const state = { isSent: false };
    try {
      return await this.wait(
        async (abort) => {
          const headers = await this.headers(request);
          state.isSent = true;
          const { method, body } = request;
          const init = {
            method,
            headers,
            ...(body === undefined ? {} : { body }),
            ...(abort ? { signal: abort } : {}),
          };
          const response = await (this.options.fetch ?? platformFetch)(
            `${this.baseUrl}/api/billing${request.path}`,
            init,
          );
          const { status } = response;
          const header = (name: string) => response.headers.get(name);
          if (status === 304) return { status, header, body: undefined };
          const said = parsed(await response.text());
          if (status < 200 || status > 299) throw errorOf({ status, header, body: said }, this.language);
          // A success without JSON is cut short, or a portal's page.
          if (said === undefined) throw new Error("the answer is not JSON");
          const { proof } = request;
          if (proof !== undefined && (said as Record<string, unknown> | null)?.[proof] === undefined)
            throw new Error(`the answer has no ${proof}`);
          return { status, header, body: said };
        },
        ms,
        signal,
      );
    } catch (error) {
      if (error instanceof BillingError && !(error instanceof TimeoutError || error instanceof AbortedError))
        throw error;
      const known = error instanceof BillingError;
      const failed = known ? error : new ConnectionError(sentence("connection", this.language), error);
      failed.mayHaveHappened = state.isSent && request.method === "POST";
      throw failed;
    }
  }

  private async headers(request: Request): Promise<Record<string, string>> {
    const { language, user } = this.options;
    const token = await this.token();
    return {
      Accept: "application/json",
      ...(request.body === undefined ? {} : { "Content-Type": "application/json" }),
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
      ...(user === undefined ? {} : { "Billing-User": headerText(user) }),
      ...(language === undefined ? {} : { "Accept-Language": language }),
      ...request.headers,
    };
  }

  /** Waits for `work`, until the time is over or the caller gives up, and then has it stop. */
  private wait<T>(work: (abort?: AbortSignalLike) => Promise<T>, ms: number, signal?: AbortSignalLike): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (signal?.aborted) return reject(new AbortedError(sentence("aborted", this.language)));
      const controller = abortController();
      const stop = (error: BillingError) => {
        end();
        reject(error);
        controller?.abort();
      };
      const aborted = () => stop(new AbortedError(sentence("aborted", this.language)));
      const callOff = later(ms, () => stop(new TimeoutError(sentence("timeout", this.language))));
      const end = () => {
        callOff();
        signal?.removeEventListener("abort", aborted);
      };
      signal?.addEventListener("abort", aborted);
      work(controller?.signal).then(resolve, reject).then(end);
    });
  }
}

/** A pause before the next try: doubled each time, and between half of that and all, so that clients don't march. */
function pauseMs(tries: number): number {
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** tries) * (0.5 + Math.random() / 2);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whom a JSON Web Token is about, as bytes; `null` where it is none. */
function subject(token: string): string | null {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  let text = "";
  let bits = 0;
  let count = 0;
  for (const letter of token.split(".")[1] ?? "") {
    bits = ((bits << 6) | alphabet.indexOf(letter)) & 0xffff;
    count += 6;
    if (count >= 8) {
      count -= 8;
      text += String.fromCharCode((bits >> count) & 0xff);
    }
  }
  const claims = parsed(text) as { sub?: unknown } | null | undefined;
  return claims ? String(claims.sub) : null;
}

/** A name as a header can hold it: percent-encoded where it is not visible ASCII. */
function headerText(name: string): string {
  return name.replace(/[^\x21-\x24\x26-\x7e]+/gu, encodeURIComponent);
}
