/**
 * Pictures in requests: a message of the conversation names them, a request has their content.
 *
 * P1 The same picture is the same block in each request, so that what was sent stays a prefix; its
 *    content is kept by the worker, and files that the agent changes do not change it.
 */
import type { AgentContext } from "../../agent.ts";
import { PICTURE, type Conversation, type Message } from "../conversation/conversation.ts";
import type { Block } from "../conversation/records.ts";

/** The block that stands for a picture. */
export type ShowPicture = (picture: Block) => Block;

const GONE = (name: string): string => `[The picture ${JSON.stringify(name)} is no longer there.]`;
const UNREADABLE = (name: string): string =>
  `[The picture ${JSON.stringify(name)} could not be shown to you: it is damaged, or of a form that you cannot read. It is still a file.]`;

export function createShowPicture(
  context: Pick<AgentContext, "pictureData">,
  { unreadable }: Pick<Conversation, "unreadable">,
): ShowPicture {
  return ({ id, name, mediaType }) => {
    const data = context.pictureData(String(id));
    if (unreadable.has(String(id))) return { type: "text", text: UNREADABLE(String(name)) };
    if (data === null) return { type: "text", text: GONE(String(name)) };
    return { type: "image", source: { type: "base64", media_type: mediaType, data } };
  };
}

export function showPictures(messages: readonly Message[], show: ShowPicture): Message[] {
  return messages.map((message) =>
    message.content.some(({ type }) => type === PICTURE)
      ? { ...message, content: message.content.map((block) => (block.type === PICTURE ? show(block) : block)) }
      : message,
  );
}
