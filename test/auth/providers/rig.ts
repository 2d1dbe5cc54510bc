/** The HTTP interface with providers, and what a browser does there. */
import { parseAllowList, type AllowList } from "../../../src/auth/providers/allow-list.ts";
import { openProvider } from "../../../src/auth/providers/open-provider.ts";
import type { ProviderSettings } from "../../../src/auth/providers/settings.ts";
import { openApiServer, PASSWORD, type ApiServer } from "../../http/api-server.ts";
import type { Browser, Page } from "./browser.ts";

export function allowList(...entries: string[]): AllowList {
  const list = parseAllowList(entries);
  if (list === null) throw new Error(`not an allow-list: ${entries.join(", ")}`);
  return list;
}

export interface Rig {
  readonly api: ApiServer;
  readonly base: string;
  start(id: string, query?: string): string;
  callback(id: string): string;
  /** Logs in with a password, as the app does; the browser then has the session's cookie. */
  logIn(browser: Browser, email: string): Promise<string>;
  /** The e-mail of the browser's session; null without one. */
  whoIs(browser: Browser): Promise<string | null>;
  close(): Promise<void>;
}

export async function openRig(settings: readonly ProviderSettings[], publicUrl?: string): Promise<Rig> {
  const providers = await Promise.all(settings.map((one) => openProvider(one, () => Date.now())));
  const api = await openApiServer({ providers, ...(publicUrl === undefined ? {} : { publicUrl }) });
  const base = `http://127.0.0.1:${api.port}`;
  return {
    api,
    base,
    start: (id, query = "") => `${base}/v1/auth/oauth/${id}/start${query}`,
    callback: (id) => `${base}/v1/auth/oauth/${id}/callback`,
    async logIn(browser, email) {
      const answer = await api.call("POST", "/v1/session", { body: { email, password: PASSWORD } });
      const cookie = /^slipway=([^;]+)/.exec(answer.headers.get("set-cookie") ?? "")?.[1] ?? "";
      browser.setCookie(base, "slipway", cookie);
      return (answer.body as { accessToken: string }).accessToken;
    },
    async whoIs(browser) {
      const cookie = browser.cookie(base, "slipway");
      if (cookie === null) return null;
      const answer = await api.call("POST", "/v1/session/refresh", { headers: { cookie: `slipway=${cookie}` } });
      return answer.status === 200 ? (answer.body as { user: { email: string } }).user.email : null;
    },
    close: () => api.close(),
  };
}

/** Why the log-in was refused; null when it was not. */
export function problemOf({ location }: Page): string | null {
  return location === null ? null : new URL(location).searchParams.get("problem");
}
