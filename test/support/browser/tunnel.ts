/** A bad network between browsers and a server: a TCP proxy that delays, cuts and refuses. */
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { Transform } from "node:stream";

export interface Tunnel {
  readonly url: string;
  /** Connections that carry a stream of events now. */
  streams(): number;
  /** Where connections go from now on. */
  aim(serverUrl: string): void;
  /** Holds back everything by so much, in each direction, ms; of connections that begin later. */
  delay(ms: number): void;
  /** Resets every connection. */
  cut(): void;
  /** False = connections are reset when they begin. */
  open(isOpen: boolean): void;
  close(): Promise<void>;
}

function slowBy(ms: number): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      setTimeout(() => done(null, chunk), ms);
    },
  });
}

export async function startTunnel(): Promise<Tunnel> {
  let port = 0;
  let delayMs = 0;
  let isOpen = true;
  const sockets = new Set<Socket>();
  const streams = new Set<Socket>();

  function keep(socket: Socket): void {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => {
      sockets.delete(socket);
      streams.delete(socket);
    });
  }

  const server = createServer((near) => {
    keep(near);
    if (!isOpen) return void near.resetAndDestroy();
    const far = connect(port, "127.0.0.1");
    keep(far);
    near.once("data", (chunk: Buffer) => {
      if (chunk.toString("latin1").startsWith("GET /v1/stream")) streams.add(near);
    });
    near.once("close", () => far.destroy());
    far.once("close", () => near.destroy());
    if (delayMs === 0) {
      near.pipe(far);
      far.pipe(near);
    } else {
      near.pipe(slowBy(delayMs)).pipe(far);
      far.pipe(slowBy(delayMs)).pipe(near);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = (): void => {
    for (const socket of sockets) {
      if (socket.connecting) socket.destroy();
      else socket.resetAndDestroy();
    }
  };
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    streams: () => streams.size,
    aim: (serverUrl) => void (port = Number(new URL(serverUrl).port)),
    delay: (ms) => void (delayMs = ms),
    cut,
    open(next) {
      isOpen = next;
      if (!next) cut();
    },
    close: () =>
      new Promise((resolve) => {
        cut();
        server.close(() => resolve());
      }),
  };
}
