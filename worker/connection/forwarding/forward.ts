/**
 * Forwards a TCP port on loopback to the broker's unix socket, for programs such as git that cannot
 * connect to a socket file.
 */
import { createServer, connect, type AddressInfo, type Socket } from "node:net";

export interface Forwarder {
  readonly port: number;
  /** Closes the port and every connection. */
  close(): Promise<void>;
}

/**
 * The port is open when this resolves. It needs no protection beyond the token of each request: a
 * process that can connect to loopback here can connect to the socket as well.
 */
export async function openForwarder(socketPath: string): Promise<Forwarder> {
  const sockets = new Set<Socket>();
  const track = (socket: Socket, peer: Socket): void => {
    sockets.add(socket);
    socket.on("error", () => peer.destroy());
    socket.on("close", () => {
      sockets.delete(socket);
      peer.destroy();
    });
  };
  const server = createServer({ allowHalfOpen: true }, (incoming) => {
    const outgoing = connect({ path: socketPath, allowHalfOpen: true });
    track(incoming, outgoing);
    track(outgoing, incoming);
    incoming.pipe(outgoing);
    outgoing.pipe(incoming);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
