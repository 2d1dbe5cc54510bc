/**
 * `slipway doctor --public <url>`: what a stranger on the internet meets. It reads, logs in when it
 * is given an account, and changes nothing.
 */
import { z } from "zod";
import { findWeakness } from "../../../auth/password-rules.ts";
import { errorMessage } from "../../../core/error.ts";
import type { Config } from "../../config.ts";
import { isLoopback } from "../../listening.ts";
import { ask, type PublicAnswer, type PublicRequest } from "./public-request.ts";

export interface PublicCheckOptions {
  /** The address under which people reach the server. */
  readonly url: string;
  readonly config: Pick<
    Config,
    "admin" | "allowedOrigins" | "port" | "providers" | "publicUrl" | "secretKey" | "trustProxy"
  >;
  /** Logs in with it, to see cookies and what the server believes about addresses. */
  readonly account: { readonly email: string; readonly password: string } | null;
  /** A certificate authority that is trusted besides those of the system. */
  readonly ca?: string;
  /** Where an engine without TLS would listen; by default its usual port. */
  readonly enginePort?: number;
}

interface PublicCheck {
  readonly rule: string;
  readonly ok: boolean;
  readonly detail: string;
}

const good = (rule: string, detail: string): PublicCheck => ({ rule, ok: true, detail });
const bad = (rule: string, detail: string): PublicCheck => ({ rule, ok: false, detail });

const CERTIFICATE_DAYS = 10;
/** Half a year: what lists of such sites ask for. */
const HSTS_SECONDS = 15_552_000;
/** An address for documentation (RFC 5737), which no client has. */
const FORGED = "203.0.113.77";
const HEADERS = ["x-content-type-options", "x-frame-options", "content-security-policy", "referrer-policy"];
/** Open on purpose. */
const OPEN = new Set(["/healthz", "/readyz", "/v1/auth/providers", "/openapi.json"]);
const STRANGER = "https://stranger.example";
const KEY_BYTES = 4;
const ENGINE_PORT = 2_375;
/** Domains at which anyone gets an e-mail address. */
const MAIL_DOMAINS = [
  ..."gmail.com googlemail.com outlook.com hotmail.com live.com yahoo.com icloud.com proton.me protonmail.com".split(
    " ",
  ),
  ..."gmx.de gmx.net web.de mail.ru yandex.ru qq.com 163.com aol.com".split(" "),
];

export async function checkPublic(options: PublicCheckOptions): Promise<PublicCheck[]> {
  const url = options.url.replace(/\/+$/, "");
  const fetchFrom = (path: string, request: PublicRequest = {}): Promise<PublicAnswer> =>
    ask(url + path, request, options.ca);
  const local = checkSettings(url, options.config);
  let first: PublicAnswer;
  try {
    first = await fetchFrom("/healthz");
  } catch (error) {
    return [bad("reachable", `${url} does not answer: ${errorMessage(error)}`), ...local];
  }
  if (first.status !== 200 || !first.text.includes('"alive"'))
    return [bad("reachable", `${url}/healthz answers ${first.status}, and not as Slipway does`), ...local];
  const checks = [
    () => Promise.resolve([good("reachable", `${url} is Slipway`), ...checkTransport(url, first)]),
    () => checkPlain(url, options),
    () => checkBesides(url, options),
    () => checkEnginePort(url, options),
    () => checkClosed(fetchFrom),
    () => checkOrigins(fetchFrom),
    () => checkStream(url, options),
    () => checkAccount(url, fetchFrom, options.account),
  ];
  const found: PublicCheck[] = [];
  for (const check of checks)
    found.push(
      ...(await check().catch((error: unknown) => [bad("reachable", `a check broke off: ${errorMessage(error)}`)])),
    );
  return [...found, ...local];
}

function checkTransport(url: string, { headers, certificateDays }: PublicAnswer): PublicCheck[] {
  if (certificateDays === null)
    return [bad("https", `${url} is plain http: passwords and sessions can be read on the way. See docs/deploy`)];
  const [, age = "0"] = /max-age=(\d+)/.exec(headers["strict-transport-security"] ?? "") ?? [];
  const missing = HEADERS.filter((name) => headers[name] === undefined);
  return [
    certificateDays >= CERTIFICATE_DAYS
      ? good("https", `the certificate is good for ${certificateDays} days`)
      : bad("https", `the certificate ends in ${certificateDays} days: its renewal does not work`),
    Number(age) >= HSTS_SECONDS
      ? good("HSTS", `max-age=${age}`)
      : bad("HSTS", "let the proxy send Strict-Transport-Security: max-age=31536000, as docs/deploy/Caddyfile does"),
    missing.length === 0
      ? good("headers", HEADERS.join(", "))
      : bad("headers", `the proxy removes ${missing.join(", ")}: let it pass the headers of Slipway`),
  ];
}

/** The same name without https. */
async function checkPlain(url: string, { ca }: PublicCheckOptions): Promise<PublicCheck[]> {
  const { protocol, hostname, port } = new URL(url);
  if (protocol !== "https:" || port !== "") return [];
  const answer = await ask(`http://${hostname}/healthz`, {}, ca).catch(() => null);
  if (answer === null) return [good("http", "port 80 is closed")];
  const target = answer.headers.location ?? "";
  return answer.status >= 300 && answer.status < 400 && target.startsWith("https:")
    ? [good("http", "port 80 leads to https")]
    : [bad("http", `http://${hostname} answers ${answer.status} without leading to https`)];
}

/** The server's own port, beside the proxy: there forwarding headers can be forged. */
async function checkBesides(url: string, { config, ca }: PublicCheckOptions): Promise<PublicCheck[]> {
  const { hostname, port, protocol } = new URL(url);
  if (protocol !== "https:" || port === String(config.port) || isLoopback(hostname)) return [];
  const besides = `http://${hostname}:${config.port}`;
  const answer = await ask(`${besides}/healthz`, {}, ca).catch(() => null);
  return answer === null
    ? [good("port", `${besides} is closed to this machine`)]
    : [bad("port", `${besides} can be reached beside the proxy: set SLIPWAY_HOST=127.0.0.1, or close the port`)];
}

/** An engine that listens without TLS gives every client root on its machine. */
async function checkEnginePort(
  url: string,
  { ca, enginePort = ENGINE_PORT }: PublicCheckOptions,
): Promise<PublicCheck[]> {
  const engine = `${new URL(url).hostname}:${enginePort}`;
  const answer = await ask(`http://${engine}/_ping`, {}, ca).catch(() => null);
  return answer?.status === 200 && answer.text.trim() === "OK"
    ? [
        bad(
          "engine port",
          `${engine} is a Docker engine that is open to this machine: everybody who can connect to it is root there. Close the port, and use DOCKER_HOST=ssh://`,
        ),
      ]
    : [good("engine port", `no engine at ${engine} is open to this machine`)];
}

/** Every GET of the API without a log-in. */
async function checkClosed(
  fetchFrom: (path: string, request?: PublicRequest) => Promise<PublicAnswer>,
): Promise<PublicCheck[]> {
  const document = z
    .object({ paths: z.record(z.string(), z.record(z.string(), z.unknown())) })
    .safeParse(JSON.parse((await fetchFrom("/openapi.json")).text)).data;
  const paths = Object.entries(document?.paths ?? {})
    .filter(([path, methods]) => "get" in methods && !OPEN.has(path) && !path.includes("oauth"))
    .map(([path]) => path);
  if (paths.length === 0) return [bad("open endpoints", "/openapi.json lists no paths")];
  const open: string[] = [];
  for (const path of paths) {
    const { status } = await fetchFrom(path.replaceAll(/\{\w+\}/g, "task_00000000000000000000000000"));
    if (status < 400) open.push(path);
  }
  const forged = await fetchFrom("/metrics", { headers: { "x-forwarded-for": "127.0.0.1" } });
  if (forged.status < 400 && !open.includes("/metrics")) open.push("/metrics with a forged address");
  return open.length === 0
    ? [good("open endpoints", `${paths.length} addresses need a log-in; open are ${[...OPEN].join(", ")} and the app`)]
    : [
        bad(
          "open endpoints",
          `without a log-in anyone reads ${open.join(", ")}: set SLIPWAY_PUBLIC_URL and SLIPWAY_TRUST_PROXY`,
        ),
      ];
}

async function checkOrigins(
  fetchFrom: (path: string, request?: PublicRequest) => Promise<PublicAnswer>,
): Promise<PublicCheck[]> {
  const { headers } = await fetchFrom("/v1/config", { headers: { origin: STRANGER } });
  const allowed = headers["access-control-allow-origin"];
  return allowed === undefined || allowed === "null"
    ? [good("origins", "pages of other sites cannot call the API")]
    : [
        bad(
          "origins",
          `pages of ${allowed} may call the API: the proxy adds this header, or SLIPWAY_ALLOWED_ORIGINS is too wide`,
        ),
      ];
}

async function checkStream(url: string, { ca }: PublicCheckOptions): Promise<PublicCheck[]> {
  const headers = {
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "c2xpcHdheS1kb2N0b3ItMQ==",
  };
  const { status } = await ask(`${url}/v1/stream`, { headers }, ca);
  return status === 101
    ? [good("stream", "WebSockets pass")]
    : [bad("stream", `a WebSocket to /v1/stream gets ${status}: let the proxy pass Upgrade and Connection`)];
}

const loginSchema = z.object({ accessToken: z.string() });
const sessionsSchema = z.object({
  items: z.array(z.object({ address: z.string(), current: z.boolean().optional() }).loose()),
});

/** Logs in with a forged address, looks at the cookie and at the address that is believed. */
async function checkAccount(
  url: string,
  fetchFrom: (path: string, request?: PublicRequest) => Promise<PublicAnswer>,
  account: PublicCheckOptions["account"],
): Promise<PublicCheck[]> {
  if (account === null)
    return [
      good(
        "cookies",
        "not checked: set SLIPWAY_EMAIL and SLIPWAY_PASSWORD for a log-in that also checks forwarded addresses",
      ),
    ];
  const { origin } = new URL(url);
  const headers = { origin, "sec-fetch-site": "same-origin", "x-forwarded-for": FORGED };
  const login = await fetchFrom("/v1/session", { method: "POST", headers, body: account });
  if (login.status !== 200)
    return [bad("cookies", `the log-in was refused (${login.status}): see SLIPWAY_EMAIL and SLIPWAY_PASSWORD`)];
  const { accessToken } = loginSchema.parse(JSON.parse(login.text));
  const authorization = `Bearer ${accessToken}`;
  const sessions = await fetchFrom("/v1/sessions", { headers: { authorization } });
  await fetchFrom("/v1/session", { method: "DELETE", headers: { ...headers, authorization } });
  const { items } = sessionsSchema.parse(JSON.parse(sessions.text));
  const mine = items.find(({ current }) => current === true) ?? items[0];
  return [checkCookie(login.headers["set-cookie"]?.[0] ?? ""), checkAddress(url, mine?.address ?? "")];
}

function checkCookie(cookie: string): PublicCheck {
  const isWhole =
    cookie.startsWith("__Host-") && ["Secure", "HttpOnly", "SameSite=Strict"].every((flag) => cookie.includes(flag));
  return isWhole
    ? good("cookies", "__Host-, Secure, HttpOnly, SameSite=Strict")
    : bad(
        "cookies",
        "the server does not know that people come by https: let the proxy send X-Forwarded-Proto, and set SLIPWAY_TRUST_PROXY",
      );
}

function checkAddress(url: string, address: string): PublicCheck {
  if (address === FORGED)
    return bad(
      "forwarding",
      "an address that a client made up is believed: SLIPWAY_TRUST_PROXY is larger than the number of proxies, or the proxy passes X-Forwarded-For on",
    );
  if (isLoopback(address) && !isLoopback(new URL(url).hostname))
    return bad(
      "forwarding",
      `all people have the proxy's address (${address}): let it send X-Forwarded-For, and set SLIPWAY_TRUST_PROXY`,
    );
  return good("forwarding", `this machine is seen as ${address}`);
}

/** What is set on this machine, when the server is here. */
function checkSettings(
  url: string,
  { admin, secretKey, publicUrl, trustProxy, allowedOrigins, providers }: PublicCheckOptions["config"],
): PublicCheck[] {
  const found: PublicCheck[] = findOpenRegistrations(providers);
  const { origin, protocol } = new URL(url);
  if (publicUrl !== null && publicUrl !== origin)
    found.push(bad("settings", `SLIPWAY_PUBLIC_URL is ${publicUrl}, people come to ${origin}`));
  if (publicUrl !== null && protocol === "https:" && trustProxy === 0)
    found.push(bad("settings", "SLIPWAY_TRUST_PROXY is 0: set it to the number of proxies in front"));
  if (allowedOrigins.some((one) => one.startsWith("http://") && !isLoopback(new URL(one).hostname)))
    found.push(
      bad("settings", "SLIPWAY_ALLOWED_ORIGINS lists an origin without https: its pages can be changed on the way"),
    );
  const weakness = admin === null ? null : findWeakness(admin.password, admin.email);
  if (weakness !== null) found.push(bad("secrets", `SLIPWAY_ADMIN_PASSWORD ${weakness}: choose several words`));
  if (secretKey !== null && new Set(secretKey).size < KEY_BYTES)
    found.push(bad("secrets", "SLIPWAY_SECRET_KEY would be guessed: make one with openssl rand -hex 32"));
  return found;
}

/** Providers that give an account to people whom the operator has not chosen. */
function findOpenRegistrations(providers: PublicCheckOptions["config"]["providers"]): PublicCheck[] {
  const stranger = { subject: "slipway-doctor", name: "slipway-doctor", userNames: [], organisations: [] };
  return providers.flatMap((provider) => {
    const id = provider.kind === "github" ? "github" : provider.id;
    const open = MAIL_DOMAINS.filter((domain) =>
      provider.allow.allows({ ...stranger, email: `slipway-doctor@${domain}` }),
    );
    if (open.length === 0) return [];
    const detail = `everybody with an address at ${open.join(", ")} gets an account through ${id}: list single addresses in its ALLOW variable`;
    return [bad("registration", detail)];
  });
}
