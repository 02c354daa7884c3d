// A bad network: a proxy between the client and the service that cuts, resets, delays and thins out what passes.

import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket, connect as tcp } from "node:net";

/** What happens to one connection. Bytes are counted from its beginning. */
export interface Fate {
  /** Cut after so many bytes to the service have passed. */
  cutRequestAt?: number;
  /** Cut after so many bytes of answers have passed: at 0 the service did all, and nobody hears of it. */
  cutAnswerAt?: number;
  /** Reset instead of closed. */
  reset?: boolean;
  /** Answers come byte by byte, so many milliseconds apart. */
  dribbleMs?: number;
  /** Never connect. */
  refuse?: boolean;
  /** Take everything and answer nothing. */
  hang?: boolean;
}

export class BadNetwork {
  /** The fate of the next connection. */
  fate: () => Fate = () => ({});
  /** Connections so far. */
  connections = 0;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  private constructor(port: () => number) {
    this.server = createServer({ noDelay: true }, (client) => this.pass(client, port()));
  }

  /** A proxy before a port of this machine. */
  static async before(port: () => number): Promise<BadNetwork> {
    const proxy = new BadNetwork(port);
    proxy.server.listen(0, "127.0.0.1");
    await once(proxy.server, "listening");
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Cuts every connection there is. */
  cutAll(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cutAll();
    this.server.close();
    await once(this.server, "close");
  }

  private pass(client: Socket, port: number): void {
    this.connections += 1;
    const fate = this.fate();
    this.own(client);
    if (fate.refuse) return void client.resetAndDestroy();
    if (fate.hang) return void client.resume();
    const service = tcp({ port, host: "127.0.0.1", noDelay: true });
    this.own(service);
    const cut = () => {
      if (fate.reset) client.resetAndDestroy();
      else client.destroy();
      service.destroy();
    };
    let sent = 0;
    client.on("data", (bytes) => {
      const limit = fate.cutRequestAt ?? Number.POSITIVE_INFINITY;
      const passes = bytes.subarray(0, Math.max(0, limit - sent));
      sent += passes.length;
      // What has passed is the service's, also where the connection breaks behind it.
      if (passes.length < bytes.length) service.end(passes, cut);
      else service.write(passes);
    });
    let answered = 0;
    let queue = Promise.resolve();
    service.on("data", (bytes) => {
      const limit = fate.cutAnswerAt ?? Number.POSITIVE_INFINITY;
      const passes = bytes.subarray(0, Math.max(0, limit - answered));
      answered += passes.length;
      const ends = passes.length < bytes.length;
      if (fate.dribbleMs === undefined) {
        if (ends) client.write(passes, cut);
        else client.write(passes);
        return;
      }
      queue = queue.then(async () => {
        for (const byte of passes) {
          if (client.destroyed) return;
          client.write(Buffer.from([byte]));
          await new Promise((resolve) => setTimeout(resolve, fate.dribbleMs));
        }
        if (ends) cut();
      });
    });
    client.on("close", () => service.destroy());
    service.on("close", () => queue.then(() => client.destroy()));
  }

  private own(socket: Socket): void {
    this.sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.sockets.delete(socket));
  }
}
