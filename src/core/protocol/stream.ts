/** Frames of the WebSocket protocol; docs/protocol.md describes them. */
import { z } from "zod";
import { eventSchema, type WireEvent } from "./events.ts";
import { taskSchema, type WireTask } from "./rest.ts";

const topic = z
  .string()
  .max(100)
  .describe("`task:<id>` = the log of a task; `tasks` = my tasks; `tasks:all` = those of all people, for operators.");

export const clientFrameSchema = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("auth").describe("The first frame, unless a header or a ticket authenticated; later: a new token."),
    token: z.string().max(4_096),
  }),
  z.strictObject({
    type: z.literal("subscribe"),
    topic,
    after: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .nullable()
      .describe("The last cursor of the topic; null = from the beginning."),
  }),
  z.strictObject({ type: z.literal("unsubscribe"), topic }),
  z.strictObject({ type: z.literal("ping") }),
]);

export type ClientFrame = z.infer<typeof clientFrameSchema>;

const frames = {
  ready: z.strictObject({ type: z.literal("ready").describe("Frames are accepted now.") }),
  subscribed: z.strictObject({
    type: z.literal("subscribed").describe("Frames of the topic follow."),
    topic,
    after: z.int().nullable(),
  }),
  events: z.strictObject({
    type: z.literal("events").describe("In order and without a gap."),
    topic,
    items: z
      .array(z.union([eventSchema, taskSchema]))
      .describe("Events for `task:<id>`, tasks in their newest form for the other topics."),
    cursor: z.int().describe("Keep it: the `after` of the next subscription."),
  }),
  delta: z.strictObject({
    type: z
      .literal("delta")
      .describe(
        "A part of a message in progress, or lines of the output of a running tool. Never stored, and may be missing.",
      ),
    topic,
    messageId: z.string(),
    text: z.string(),
  }),
  deleted: z.strictObject({
    type: z.literal("deleted").describe("Tasks of a list that are gone. Also after `subscribed`: those since `after`."),
    topic,
    ids: z.array(z.string()),
  }),
  error: z.strictObject({
    type: z.literal("error"),
    code: z
      .string()
      .describe(
        "not_found: no such topic, or not yours; later, the task was deleted. invalid_cursor: subscribe with null. too_many_subscriptions: unsubscribe first. invalid_frame: the frame was none of this protocol. unavailable: subscribe again.",
      ),
    topic: topic.optional(),
  }),
  pong: z.strictObject({ type: z.literal("pong") }),
};

export const serverFrameSchema = z.discriminatedUnion("type", [
  frames.ready,
  frames.subscribed,
  frames.events,
  frames.delta,
  frames.deleted,
  frames.error,
  frames.pong,
]);

type Frame = z.infer<typeof serverFrameSchema>;
interface EventsFrame extends Omit<Extract<Frame, { type: "events" }>, "items"> {
  readonly items: readonly (WireEvent | WireTask)[];
}
export type ServerFrame = Readonly<Exclude<Frame, { type: "events" }>> | Readonly<EventsFrame>;
