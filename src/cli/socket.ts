/** The `ws` package as the client's WebSocket: Node.js 20 has none of its own. */
import { WebSocket } from "ws";
import type { WebSocketConstructor } from "../client/stream.ts";

export function createSocketFactory(): WebSocketConstructor {
  return WebSocket;
}
