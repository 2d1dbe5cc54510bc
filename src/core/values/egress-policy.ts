/**
 * Egress policies: a task may connect to exact `host:port` endpoints only. Wildcards are not
 * supported, because anyone who can register a subdomain of a listed name would be allowed too.
 * Pure: the addresses that a name resolves to are checked when the connection is made
 * (src/broker/connect-proxy.ts).
 */
import { SlipwayError } from "../error.ts";
import type { Egress } from "../task.ts";
import { parseHostAndPort } from "./hostname.ts";

/**
 * The shipped allow-list: package registries and the hosts that their clients need. Code hosting,
 * object storage and content networks are left out, because a task could upload data there to any
 * account. Remaining risk: registries that accept uploads at their download address (npm, rubygems)
 * accept them from a task that has an account; operators who cannot accept this remove them.
 * Reviewed on 2026-11-23.
 */
export const DEFAULT_HOSTS: readonly string[] = [
  "registry.npmjs.org:443",
  "registry.yarnpkg.com:443",
  "pypi.org:443",
  "files.pythonhosted.org:443",
  "index.crates.io:443",
  "static.crates.io:443",
  "proxy.golang.org:443",
  "sum.golang.org:443",
  "rubygems.org:443",
  "index.rubygems.org:443",
  "repo.maven.apache.org:443",
  "repo1.maven.org:443",
  "plugins.gradle.org:443",
  "api.nuget.org:443",
  "repo.packagist.org:443",
];

/** The policy of one attempt at the time of one connection. */
export interface EgressPolicy {
  readonly egress: Egress;
  /** `host:port`, lower case. */
  readonly hosts: ReadonlySet<string>;
  /** The policy of the setup; absent = the agent's. */
  readonly isSetup?: boolean;
  /** Aborted when this policy holds no longer: the connections that it allowed are cut. */
  readonly ends?: AbortSignal;
}

const WIDTH: Readonly<Record<Egress, number>> = { none: 0, allowlist: 1, open: 2 };

export const widerEgress = (a: Egress, b: Egress): Egress => (WIDTH[a] >= WIDTH[b] ? a : b);
export const narrowerEgress = (a: Egress, b: Egress): Egress => (WIDTH[a] <= WIDTH[b] ? a : b);

/**
 * Parses the `host:port` of a CONNECT request into lower case; null for anything else: user
 * information, a trailing dot, an IPv6 address, a missing or bad port.
 */
export function parseEndpoint(text: string): string | null {
  const parsed = parseHostAndPort(text);
  return parsed === null || parsed.port === null ? null : `${parsed.host}:${parsed.port}`;
}

/** @throws SlipwayError `invalid_request` when any entry is invalid. @returns a sorted set. */
export function parseEndpoints(list: readonly string[]): string[] {
  const endpoints = list.map((text) => {
    const endpoint = parseEndpoint(text);
    if (endpoint !== null) return endpoint;
    throw new SlipwayError(
      "invalid_request",
      `${JSON.stringify(text.slice(0, 100))} is not a host:port like registry.npmjs.org:443.`,
    );
  });
  return [...new Set(endpoints)].toSorted();
}

/** Why the policy refuses an endpoint and how to change that; null when it allows it. */
export function explainRefusal({ egress, hosts, isSetup }: EgressPolicy, endpoint: string): string | null {
  switch (egress) {
    case "open":
      return null;
    case "none":
      if (isSetup === true) return 'The setup has egress "none": SLIPWAY_SETUP_EGRESS or .slipway.yml says so.';
      return 'The task has egress "none". Submit with --egress allowlist to reach package registries.';
    case "allowlist":
      return hosts.has(endpoint)
        ? null
        : `It is not on the allow-list. An operator adds it with \`slipway egress allow ${endpoint}\`.`;
  }
}
