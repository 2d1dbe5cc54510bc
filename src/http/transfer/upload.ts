/**
 * Receives the body of an upload: the bytes of one file, of any type.
 *
 * U1 A body makes progress, or its connection ends. Its whole time is bounded by the server, which
 *    gives an upload longer than other requests.
 */
import type { IncomingMessage } from "node:http";
import { SlipwayError } from "../../core/error.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import type { Received } from "../../core/ports/files/attachments.ts";
import { allowLongBody } from "../server/server.ts";
import type { ApiDeps } from "../route.ts";

/** Longest silence within a body, ms. */
const IDLE_MS = 30_000;

/**
 * @throws SlipwayError as `AttachmentService.receive`, `unsupported_media_type`, `request_timeout`.
 */
export async function receiveUpload(
  { tasks }: Pick<ApiDeps, "tasks">,
  identity: Identity,
  name: string,
  request: IncomingMessage,
): Promise<Received> {
  const { "content-type": type = "", "content-encoding": encoding = "identity" } = request.headers;
  if (/^multipart\//i.test(type) || encoding !== "identity")
    throw new SlipwayError("unsupported_media_type", "Send the bytes of the file as the body, and its name as ?name=.");
  const announced = request.headers["content-length"];
  const length = announced === undefined ? null : Number(announced);
  allowLongBody(request);
  return await tasks.attachments.receive(identity, { name, length, content: chunksOf(request) });
}

async function* chunksOf(request: IncomingMessage): AsyncGenerator<Uint8Array, void, undefined> {
  const end = (): unknown => request.complete || request.destroy();
  request.socket.setTimeout(IDLE_MS, end);
  try {
    for await (const chunk of request) yield chunk as Uint8Array;
  } catch (cause) {
    throw new SlipwayError("request_timeout", "The connection ended before the file.", { cause });
  } finally {
    // With it the listener goes too.
    request.socket.setTimeout(0, end);
  }
}
