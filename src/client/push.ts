/** The calls about notifications: `client.push`. */
import type {
  NewNtfy,
  NewPushDevice,
  NewWebhook,
  WireNotification,
  WirePush,
  WirePushDevice,
  WireWebhook,
} from "../core/protocol/push.ts";
import type { Transport } from "./transport.ts";
import type { CallOptions } from "./types.ts";

const device = (id: string): string => `/v1/push/devices/${encodeURIComponent(id)}`;

export class PushClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The caller's devices, and the key that browsers subscribe with. */
  status({ signal }: CallOptions = {}): Promise<WirePush> {
    return this.#transport.json({ method: "GET", path: "/v1/push", signal });
  }

  /** Adds this browser, or changes the kinds of notifications that it gets. */
  putDevice(body: NewPushDevice, { signal }: CallOptions = {}): Promise<WirePushDevice> {
    return this.#transport.json({ method: "POST", path: "/v1/push/devices", body, signal });
  }

  /** A topic that is told when no browser shows a notification. */
  addNtfy(body: NewNtfy, { signal }: CallOptions = {}): Promise<WirePushDevice> {
    return this.#transport.json({ method: "POST", path: "/v1/push/ntfy", body, signal });
  }

  /** A webhook that is called when no browser shows a notification; its secret is shown once. */
  addWebhook(body: NewWebhook, { signal }: CallOptions = {}): Promise<WireWebhook> {
    return this.#transport.json({ method: "POST", path: "/v1/push/webhooks", body, signal });
  }

  async deleteDevice(id: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#transport.send({ method: "DELETE", path: device(id), signal });
  }

  test(id: string, { signal }: CallOptions = {}): Promise<WireNotification> {
    return this.#transport.json({ method: "POST", path: `${device(id)}/test`, signal });
  }

  /** Reports the task that a page of the caller shows; null = none. Repeat it every 20 s. */
  async look(page: string, taskId: string | null): Promise<void> {
    const body = { page, taskId };
    await this.#transport.send({ method: "POST", path: "/v1/push/presence", body, retries: 0 });
  }
}
