/** Frames of the WebSocket protocol; docs/protocol.md describes them. */
import { z } from "zod";
import type { WireTask, WireEvent } from "./rest.ts";

const topic = z.string().max(100);

export const clientFrameSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("auth"), token: z.string().max(4_096) }),
  /** `after`: a task's seq for `task:<id>`, the last `cursor` (or null) for `tasks`. */
  z.strictObject({
    type: z.literal("subscribe"),
    topic,
    after: z.int().min(0).max(Number.MAX_SAFE_INTEGER).nullable(),
  }),
  z.strictObject({ type: z.literal("unsubscribe"), topic }),
  z.strictObject({ type: z.literal("ping") }),
]);

export type ClientFrame = z.infer<typeof clientFrameSchema>;

export type ServerFrame =
  | { readonly type: "ready" }
  | { readonly type: "subscribed"; readonly topic: string; readonly after: number | null }
  | {
      readonly type: "events";
      readonly topic: string;
      readonly items: readonly (WireEvent | WireTask)[];
      readonly cursor: number;
    }
  | { readonly type: "delta"; readonly topic: string; readonly messageId: string; readonly text: string }
  | { readonly type: "error"; readonly code: string; readonly topic?: string }
  | { readonly type: "pong" };
