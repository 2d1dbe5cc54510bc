/**
 * What a task may reach: exact `host:port`, nothing else. No wildcards: whoever can rent a name
 * below a listed one would be listed. Pure; what a name resolves to is checked where the connection
 * is made (src/broker/connect-proxy.ts).
 */
import { SlipwayError } from "../error.ts";
import type { Egress } from "../task.ts";
import { parseHostAndPort } from "./hostname.ts";

/**
 * Package registries, and what their clients need. Left out on purpose are hosts that are made for
 * leaving data with an account of one's own: code hosting, object storage, content networks. What
 * remains: a registry that takes packages at the address where it hands them out (npm, rubygems)
 * also takes one from a task that brings an account; who cannot bear that shortens the list.
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

/** The policy of one attempt at the moment of one connection. */
export interface EgressPolicy {
  readonly egress: Egress;
  /** `host:port`, lower case. */
  readonly hosts: ReadonlySet<string>;
}

/**
 * `host:port` as a CONNECT names it, in lower case; null when it is anything else: a user, a dot at
 * the end, an IPv6 address, a bad port.
 */
export function parseEndpoint(text: string): string | null {
  const parsed = parseHostAndPort(text);
  return parsed === null || parsed.port === null ? null : `${parsed.host}:${parsed.port}`;
}

/** @throws SlipwayError `invalid_request`: the list is taken whole or not at all. */
export function parseEndpoints(list: readonly string[]): string[] {
  const places = list.map((text) => {
    const place = parseEndpoint(text);
    if (place !== null) return place;
    throw new SlipwayError(
      "invalid_request",
      `${JSON.stringify(text.slice(0, 100))} is no host:port, such as registry.npmjs.org:443.`,
    );
  });
  return [...new Set(places)].toSorted();
}

/** Why the policy refuses a place; null = it does not. The words say how to change that. */
export function explainRefusal({ egress, hosts }: EgressPolicy, place: string): string | null {
  switch (egress) {
    case "open":
      return null;
    case "none":
      return 'The task has egress "none". Submit with --egress allowlist to reach package registries.';
    case "allowlist":
      return hosts.has(place)
        ? null
        : `It is not on the allow-list. An operator adds it with \`slipway egress allow ${place}\`.`;
  }
}
