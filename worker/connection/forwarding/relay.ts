/**
 * The container's end of src/sandbox/docker/transport/exec-tunnel.ts.
 *
 * It listens where the broker's socket would be mounted and carries each connection as one CONNECT
 * stream of HTTP/2 over this process's standard streams. It has no token and does not interpret the
 * data.
 */
import { renameSync } from "node:fs";
import { connect } from "node:http2";
import { createServer } from "node:net";
import { Duplex } from "node:stream";

const WINDOW = 1_048_576;

/** Resolves with an exit code when the tunnel has ended. */
export function runRelay(path: string): Promise<number> {
  return new Promise((resolve) => {
    const tunnel = Duplex.from({ readable: process.stdin, writable: process.stdout });
    const session = connect("http://broker", {
      createConnection: () => tunnel,
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
    const end = (code: number): void => {
      server.close();
      resolve(code);
    };
    session.on("close", () => end(0));
    session.on("error", () => end(1));
    server.on("error", () => end(1));
    // Node unlinks the path that it listened on when the server closes. An earlier relay may close
    // after this one has started, so each listens on a path that only it uses, then renames it.
    const ownPath = `${path}.${process.pid}`;
    server.listen(ownPath, () => renameSync(ownPath, path));
  });
}
