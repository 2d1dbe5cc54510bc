/**
 * Sends one push message: encrypted for the device (aes128gcm), signed by this installation
 * (VAPID), over connections that are guarded like those to repositories, because the address comes
 * from a person's browser.
 */
import { createHash } from "node:crypto";
import { errorMessage, SlipwayError } from "../core/error.ts";
import type { PushDevice } from "../core/ports/notifications.ts";
import { isHostname } from "../core/values/hostname.ts";
import { openGuardedHttp } from "../git/forges/guarded-http.ts";
import type { PushPayload } from "./payload.ts";
import type { VapidKeys } from "./vapid.ts";

export type PushOutcome =
  | { readonly kind: "accepted" }
  /** The push service does not know the subscription any more. */
  | { readonly kind: "gone" }
  | { readonly kind: "refused"; readonly problem: string }
  | { readonly kind: "later"; readonly problem: string; readonly afterMs: number | null };

export interface PushSender {
  send(device: PushDevice, payload: PushPayload): Promise<PushOutcome>;
  close(): Promise<void>;
}

export interface PushSenderOptions {
  readonly keys: VapidKeys;
  /** Whom a push service asks about messages: `https:` or `mailto:`. */
  readonly contact: string;
  /** `host[:port]` that may be at private addresses and use plain http. */
  readonly trustedHosts: readonly string[];
  readonly timeoutMs?: number;
}

const SETTING = "SLIPWAY_TRUSTED_PUSH_HOSTS";
const LONGEST = 2_000;
const TIMEOUT_MS = 15_000;
/** A day: later nobody wants to know. */
const TTL_SECONDS = 24 * 60 * 60;
const LOCAL_NAME = /(^|\.)(localhost|local|internal|lan|home|arpa|invalid|test|onion)$/;

/** @throws SlipwayError `invalid_request` unless messages may be sent to this address. */
export function checkEndpoint(endpoint: string, trustedHosts: readonly string[]): void {
  const refuse = (message: string): never => {
    throw new SlipwayError("invalid_request", "The body is not valid: see errors.", {
      errors: [{ path: "endpoint", message }],
    });
  };
  if (endpoint.length > LONGEST || !URL.canParse(endpoint)) refuse("must be a web address");
  const { protocol, host, hostname, port, username, password } = new URL(endpoint);
  if (username !== "" || password !== "") refuse("must not contain a user name or password");
  if (trustedHosts.includes(host) && /^https?:$/.test(protocol)) return;
  if (protocol !== "https:" || port !== "") refuse("must use https and its default port");
  const isPublicName = isHostname(hostname) && /[a-z]$/.test(hostname) && hostname.includes(".");
  if (!isPublicName || LOCAL_NAME.test(hostname)) refuse(`must name a public host, or one of ${SETTING}`);
}

export function openPushSender({ keys, contact, trustedHosts, timeoutMs }: PushSenderOptions): PushSender {
  const options = { timeoutMs: timeoutMs ?? TIMEOUT_MS, setting: SETTING };
  const [guarded, trusted] = [false, true].map((isTrusted) => openGuardedHttp({ isTrusted, ...options }));
  const vapidDetails = { subject: contact, publicKey: keys.publicKey, privateKey: keys.privateKey };

  return {
    async send(device, payload) {
      const { endpoint, p256dh, auth } = device;
      try {
        checkEndpoint(endpoint, trustedHosts);
        const { default: webPush } = await import("web-push");
        const { headers, body } = webPush.generateRequestDetails(
          { endpoint, keys: { p256dh, auth } },
          JSON.stringify(payload),
          {
            vapidDetails,
            TTL: TTL_SECONDS,
            urgency: payload.kind === "needs_you" || payload.kind === "budget" ? "high" : "normal",
            topic: createHash("sha256").update(payload.tag).digest("base64url").slice(0, 32),
          },
        );
        const http = trustedHosts.includes(new URL(endpoint).host) ? trusted : guarded;
        if (http === undefined) throw new Error("the sender is not open");
        const texts = Object.entries(headers).map(([name, value]) => [name, String(value)]);
        const request = { method: "POST" as const, url: endpoint, headers: Object.fromEntries(texts), body };
        const { status, headers: received } = await http.send(request, new AbortController().signal);
        return toOutcome(status, received["retry-after"]);
      } catch (error) {
        if (error instanceof SlipwayError) return { kind: "refused", problem: `The address is not allowed.` };
        return { kind: "later", problem: errorMessage(error), afterMs: null };
      }
    },
    async close() {
      await Promise.all([guarded?.close(), trusted?.close()]);
    },
  };
}

function toOutcome(status: number, retryAfter: string | undefined): PushOutcome {
  if (status >= 200 && status <= 299) return { kind: "accepted" };
  if (status === 404 || status === 410) return { kind: "gone" };
  const problem = `The push service answered ${status}.`;
  if (status !== 429 && status < 500) return { kind: "refused", problem };
  const seconds = Number(retryAfter);
  return { kind: "later", problem, afterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : null };
}
