/**
 * The other end of src/sandbox/docker/transport/exec-tunnel.ts, beside the worker in its container:
 * listens where the broker's socket would be mounted, and carries each connection over this
 * process's standard streams as one CONNECT stream of HTTP/2. It knows no token and reads nothing
 * of what it carries.
 */
import { renameSync } from "node:fs";
import { connect } from "node:http2";
import { createServer } from "node:net";
import { Duplex } from "node:stream";

const WINDOW = 1_048_576;

/** Resolves with an exit code when the line has ended. */
export function runRelay(path: string): Promise<number> {
  return new Promise((resolve) => {
    const line = Duplex.from({ readable: process.stdin, writable: process.stdout });
    const session = connect("http://broker", {
      createConnection: () => line,
      settings: { initialWindowSize: WINDOW, enablePush: false },
    });
    session.on("connect", () => session.setLocalWindowSize(4 * WINDOW));
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      const stream = session.request({ ":method": "CONNECT", ":authority": "broker" }, { endStream: false });
      stream.on("error", () => socket.destroy());
      stream.on("close", () => socket.destroy());
      socket.on("error", () => stream.close());
      socket.on("close", () => {
        if (!stream.writableEnded) stream.close();
      });
      stream.pipe(socket);
      socket.pipe(stream);
    });
    const end = (code: number) => (): void => {
      server.close();
      resolve(code);
    };
    session.on("close", end(0));
    session.on("error", end(1));
    server.on("error", end(1));
    // Node unlinks at the end what it was told to listen at: one that was here before may end later
    // than we begin, and takes only its own name away.
    const mine = `${path}.${process.pid}`;
    server.listen(mine, () => renameSync(mine, path));
  });
}
