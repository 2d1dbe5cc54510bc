/** Makes the WebSocket frames of the server: JSON in UTF-8 (docs/protocol.md). */
import type { ServerFrame } from "../../core/protocol/stream.ts";

/** One entry of a feed as it goes over the wire. */
export interface FeedItem {
  readonly cursor: number;
  readonly json: string;
  /** Length of `json` in UTF-8. */
  readonly bytes: number;
  /** It has a whole text, whose id is in it, and of which deltas may have come before. */
  readonly endsText?: boolean;
}

/** A frame of events ends with the item that brings it to this size. */
const FRAME_BYTES = 256 * 1024;

export const encodeFrame = (frame: ServerFrame): Buffer => Buffer.from(JSON.stringify(frame));

/** Yields `events` frames of the items in order. A frame is encoded when it is requested. */
export function* encodeEvents(
  topic: string,
  items: readonly FeedItem[],
): Generator<{ readonly bytes: Buffer; readonly cursor: number }> {
  const opening = `{"type":"events","topic":${JSON.stringify(topic)},"items":[`;
  let parts: string[] = [];
  let size = 0;
  for (const [index, item] of items.entries()) {
    parts.push(item.json);
    size += item.bytes;
    if (size < FRAME_BYTES && index < items.length - 1) continue;
    yield { bytes: Buffer.from(`${opening}${parts.join(",")}],"cursor":${item.cursor}}`), cursor: item.cursor };
    parts = [];
    size = 0;
  }
}
