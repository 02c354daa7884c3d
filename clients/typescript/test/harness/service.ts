// The service's release binary: started in a directory of its own, stopped, killed and started again.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { BillingClient, type ClientOptions } from "../../src/index.ts";

const BINARY = resolve(process.env.TOKEN_BILLING_BINARY ?? "../../target/release/token-billing");
const SECRET = "a shared secret of thirty-two bytes";

/** Settings with which users log in, and purchases are believed. */
export const LOGINS = { BILLING_AUTH: "jwt", BILLING_JWT_SECRET: SECRET, BILLING_RECEIPTS: "off" };

export class Service {
  readonly directory = mkdtempSync(join(tmpdir(), "token-billing-"));
  private readonly settings: Record<string, string>;
  private process: ChildProcess | undefined;
  private address = "127.0.0.1:0";

  private constructor(settings: Record<string, string>) {
    this.settings = settings;
  }

  /** A running service with a new database. */
  static async start(settings: Record<string, string> = {}): Promise<Service> {
    const service = new Service(settings);
    await service.start();
    return service;
  }

  /** Starts it again, where it was before. */
  async start(): Promise<void> {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: set TOKEN_BILLING_BINARY, or build it`);
    const { PATH, HOME } = process.env;
    const env = { PATH, HOME, NO_COLOR: "1", BILLING_LISTEN: this.address, ...this.settings };
    const child = spawn(BINARY, [], { cwd: this.directory, env, stdio: ["ignore", "pipe", "inherit"] });
    this.process = child;
    // A test that fails ends nothing.
    process.once("exit", () => child.kill("SIGKILL"));
    const lines = createInterface({ input: child.stdout });
    const [first] = await once(lines, "line");
    // What nobody reads fills its pipe.
    lines.on("line", () => {});
    const named = /address=(\S+)/.exec(first);
    if (named === null) throw new Error(`the service's first line names no address: ${first}`);
    this.address = named[1]!;
  }

  get url(): string {
    return `http://${this.address}`;
  }

  get port(): number {
    return Number(this.address.split(":")[1]);
  }

  client(options: Partial<ClientOptions> = {}): BillingClient {
    return new BillingClient({ baseUrl: this.url, language: "en", ...options });
  }

  /** A client of a user who has logged in. */
  as(user: string, options: Partial<ClientOptions> = {}): BillingClient {
    return this.client({ token: login(user), ...options });
  }

  /** Changes the database behind the service's back. */
  sql(statement: string): void {
    const script = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
    execFileSync("python3", ["-c", script, join(this.directory, "billing.db"), statement]);
  }

  /** Takes the database's lock for writing; what is returned gives it back. */
  async lock(): Promise<() => Promise<void>> {
    const script = `import sqlite3,sys
c=sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()`;
    const child = spawn("python3", ["-c", script, join(this.directory, "billing.db")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    return async () => {
      const ended = once(child, "exit");
      child.stdin.end();
      await ended;
    };
  }

  /** Ends it, as a signal says. */
  async end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const child = this.process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  /** Ends it for good, and has the service itself check its books. */
  async stop(): Promise<void> {
    await this.end();
    const { PATH, HOME } = process.env;
    execFileSync(BINARY, ["verify"], { cwd: this.directory, env: { PATH, HOME, ...this.settings }, stdio: "pipe" });
    rmSync(this.directory, { recursive: true });
  }
}

/** An access token as the app's login gives them out. */
export function login(user: string, claims: object = {}): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, type: "access", exp, ...claims })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}
