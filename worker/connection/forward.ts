/**
 * A TCP port on loopback that leads to the broker's unix socket, for programs (git) that cannot
 * dial a socket file.
 */
import { createServer, connect, type AddressInfo, type Socket } from "node:net";

export interface Forwarder {
  readonly port: number;
  /** Ends every connection. */
  close(): Promise<void>;
}

/**
 * The port is open when this resolves. The token is what guards it: whoever can dial loopback here
 * could dial the socket as well.
 */
export async function openForwarder(socketPath: string): Promise<Forwarder> {
  const open = new Set<Socket>();
  const keep = (socket: Socket, twin: Socket): void => {
    open.add(socket);
    socket.on("error", () => twin.destroy());
    socket.on("close", () => {
      open.delete(socket);
      twin.destroy();
    });
  };
  const server = createServer({ allowHalfOpen: true }, (incoming) => {
    const outgoing = connect({ path: socketPath, allowHalfOpen: true });
    keep(incoming, outgoing);
    keep(outgoing, incoming);
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
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
