/**
 * Sends one message: to a browser encrypted for it (aes128gcm) and signed by this installation
 * (VAPID), to ntfy and webhooks as messages.ts makes it. The connections are guarded like those to
 * repositories, because the address comes from a person.
 */
import { createHash } from "node:crypto";
import { errorMessage, SlipwayError } from "../core/error.ts";
import type { PushDevice } from "../core/ports/notifications.ts";
import { openGuardedHttp } from "../git/forges/guarded-http.ts";
import { checkEndpoint, TRUSTED_SETTING } from "./endpoint.ts";
import { isUrgent, makeNtfyMessage, makeWebhookMessage, type Message, type Reach } from "./messages.ts";
import type { PushPayload } from "./payload.ts";
import type { VapidKeys } from "./vapid.ts";

export type PushOutcome =
  | { readonly kind: "accepted" }
  /** The other end does not know the subscription any more. */
  | { readonly kind: "gone" }
  | { readonly kind: "refused"; readonly problem: string }
  | { readonly kind: "later"; readonly problem: string; readonly afterMs: number | null };

export interface PushSender {
  send(device: PushDevice, payload: PushPayload): Promise<PushOutcome>;
  close(): Promise<void>;
}

export interface PushSenderOptions {
  readonly keys: VapidKeys;
  /** The contact for operators of push services: `https:` or `mailto:`. */
  readonly contact: string;
  /** `host[:port]` that may be at private addresses and use plain http. */
  readonly trustedHosts: readonly string[];
  /** The address at which people open the app; null = not configured. */
  readonly publicUrl: string | null;
  /** Opens what a device is reached with. */
  readonly open: (device: PushDevice) => Reach;
  readonly now: () => number;
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 15_000;
/** One day: a later message would be stale. */
const TTL_SECONDS = 24 * 60 * 60;

export function openPushSender(options: PushSenderOptions): PushSender {
  const { trustedHosts, publicUrl, open, now, timeoutMs = TIMEOUT_MS } = options;
  const [guarded, trusted] = [false, true].map((isTrusted) =>
    openGuardedHttp({ isTrusted, setting: TRUSTED_SETTING, timeoutMs }),
  );

  async function make(device: PushDevice, payload: PushPayload): Promise<Message> {
    if (device.via === "web_push") {
      checkEndpoint(device.endpoint, trustedHosts);
      return makeWebPush(options, device, payload);
    }
    const reach = open(device);
    checkEndpoint(reach.url, trustedHosts);
    if (device.via === "ntfy") return makeNtfyMessage(reach, payload, publicUrl);
    return makeWebhookMessage(reach, payload, publicUrl, now());
  }

  return {
    async send(device, payload) {
      try {
        const message = await make(device, payload);
        const http = trustedHosts.includes(new URL(message.url).host) ? trusted : guarded;
        if (http === undefined) throw new Error("the sender is not open");
        const { status, headers } = await http.send({ method: "POST", ...message }, new AbortController().signal);
        return toOutcome(device, status, headers["retry-after"]);
      } catch (error) {
        if (error instanceof SlipwayError) return { kind: "refused", problem: toProblem(error) };
        return { kind: "later", problem: errorMessage(error), afterMs: null };
      }
    },
    async close() {
      await Promise.all([guarded?.close(), trusted?.close()]);
    },
  };
}

const toProblem = ({ code }: SlipwayError): string =>
  code === "invalid_request"
    ? "The address is not allowed."
    : "The stored address cannot be opened. Remove it here and add it again.";

async function makeWebPush(
  { keys, contact }: Pick<PushSenderOptions, "keys" | "contact">,
  { endpoint, p256dh, auth }: PushDevice,
  payload: PushPayload,
): Promise<Message> {
  const { default: webPush } = await import("web-push");
  const { headers, body } = webPush.generateRequestDetails(
    { endpoint, keys: { p256dh, auth } },
    JSON.stringify(payload),
    {
      vapidDetails: { subject: contact, publicKey: keys.publicKey, privateKey: keys.privateKey },
      TTL: TTL_SECONDS,
      urgency: isUrgent(payload) ? "high" : "normal",
      topic: createHash("sha256").update(payload.tag).digest("base64url").slice(0, 32),
    },
  );
  const texts = Object.entries(headers).map(([name, value]) => [name, String(value)]);
  return { url: endpoint, headers: Object.fromEntries(texts), body };
}

function toOutcome({ via }: PushDevice, status: number, retryAfter: string | undefined): PushOutcome {
  if (status >= 200 && status <= 299) return { kind: "accepted" };
  // 404 is a push service's word for it too; of others it may be a mistake in the address.
  if (status === 410 || (status === 404 && via === "web_push")) return { kind: "gone" };
  const problem = `${via === "web_push" ? "The push service" : "The other end"} answered ${status}.`;
  if (status !== 429 && status < 500) return { kind: "refused", problem };
  const seconds = Number(retryAfter);
  return { kind: "later", problem, afterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : null };
}
