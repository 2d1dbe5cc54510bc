/**
 * What is posted to an ntfy topic and to a webhook. A message that is sent again has the same id,
 * by which a receiver of webhooks knows it.
 */
import { createHmac, randomBytes } from "node:crypto";
import { parseTopic } from "./endpoint.ts";
import type { PushPayload } from "./payload.ts";

/** A request before it is sent. */
export interface Message {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
}

/** How ntfy and webhooks are reached, as it is sealed. */
export interface Reach {
  readonly url: string;
  /** The access token of ntfy, null = none is needed; the signing secret of a webhook. */
  readonly secret: string | null;
}

const JSON_TYPE = { "content-type": "application/json" };
const SECRET_PREFIX = "whsec_";
const SECRET_BYTES = 32;
/** As ntfy counts: 3 is usual, 4 vibrates longer, 5 is for emergencies. */
const URGENT = 4;
const USUAL = 3;
/** Short codes of emoji, which ntfy shows before the title. */
const TAGS: Readonly<Record<PushPayload["kind"], string>> = {
  needs_you: "raised_hand",
  budget: "moneybag",
  done: "white_check_mark",
  failed: "x",
  test: "bell",
};

export const isUrgent = ({ kind }: Pick<PushPayload, "kind">): boolean => kind === "needs_you" || kind === "budget";

/** `whsec_` and base64, as the Standard Webhooks specification has it. */
export function makeWebhookSecret(): string {
  return SECRET_PREFIX + randomBytes(SECRET_BYTES).toString("base64");
}

/**
 * As JSON to the server: a title in a header would have to be encoded.
 * @param publicUrl where people open the app; null = the message has no link.
 */
export function makeNtfyMessage({ url, secret }: Reach, payload: PushPayload, publicUrl: string | null): Message {
  const { server, topic } = parseTopic(url);
  const { kind, title, body } = payload;
  const click = linkOf(payload, publicUrl);
  return {
    url: server,
    headers: { ...JSON_TYPE, ...(secret === null ? {} : { authorization: `Bearer ${secret}` }) },
    body: JSON.stringify({
      topic,
      title,
      message: body,
      tags: [TAGS[kind]],
      priority: isUrgent(payload) ? URGENT : USUAL,
      ...(click === null ? {} : { click }),
    }),
  };
}

/** Signed as Standard Webhooks has it. @param now of this try: receivers refuse old ones. */
export function makeWebhookMessage(
  { url, secret }: Reach,
  payload: PushPayload,
  publicUrl: string | null,
  now: number,
): Message {
  const { id, kind, title, body: text, at, taskId, question } = payload;
  const body = JSON.stringify({
    type: kind === "test" ? "test" : `task.${kind}`,
    timestamp: new Date(at).toISOString(),
    data: { id, title, text, taskId, url: linkOf(payload, publicUrl), question },
  });
  const seconds = Math.floor(now / 1_000);
  const key = Buffer.from((secret ?? "").slice(SECRET_PREFIX.length), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${seconds}.${body}`).digest("base64");
  return {
    url,
    headers: {
      ...JSON_TYPE,
      "webhook-id": id,
      "webhook-timestamp": String(seconds),
      "webhook-signature": `v1,${signature}`,
    },
    body,
  };
}

const linkOf = ({ url }: PushPayload, publicUrl: string | null): string | null =>
  publicUrl === null ? null : new URL(url, publicUrl).href;
