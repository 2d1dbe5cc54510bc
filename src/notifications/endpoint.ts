/** Where messages may go: addresses come from people, so they pass the same checks as browsers'. */
import { SlipwayError } from "../core/error.ts";
import { isHostname } from "../core/values/hostname.ts";

/** Names the hosts that an operator trusts. */
export const TRUSTED_SETTING = "SLIPWAY_TRUSTED_PUSH_HOSTS";
const LONGEST = 2_000;
const LOCAL_NAME = /(^|\.)(localhost|local|internal|lan|home|arpa|invalid|test|onion)$/;
const TOPIC = /^[-_A-Za-z0-9]{1,64}$/;

/** A field of a body is not valid. */
export function invalidField(path: string, message: string): SlipwayError {
  return new SlipwayError("invalid_request", "The body is not valid: see errors.", { errors: [{ path, message }] });
}

/**
 * @param path the field that the address came in.
 * @throws SlipwayError `invalid_request` unless messages may be sent to this address.
 */
export function checkEndpoint(endpoint: string, trustedHosts: readonly string[], path = "endpoint"): void {
  if (endpoint.length > LONGEST || !URL.canParse(endpoint)) throw invalidField(path, "must be a web address");
  const { protocol, host, hostname, port, username, password } = new URL(endpoint);
  if (username !== "" || password !== "") throw invalidField(path, "must not contain a user name or password");
  if (trustedHosts.includes(host) && /^https?:$/.test(protocol)) return;
  if (protocol !== "https:" || port !== "") throw invalidField(path, "must use https and its default port");
  const isPublicName = isHostname(hostname) && /[a-z]$/.test(hostname) && hostname.includes(".");
  if (!isPublicName || LOCAL_NAME.test(hostname))
    throw invalidField(path, `must name a public host, or one of ${TRUSTED_SETTING}`);
}

/** The server of an ntfy topic, with a slash at its end, and the name of the topic. */
export interface NtfyTopic {
  readonly server: string;
  readonly topic: string;
}

/** @throws SlipwayError `invalid_request` unless the address ends with the name of a topic. */
export function parseTopic(url: string): NtfyTopic {
  const { origin, pathname, search, hash } = new URL(url);
  const at = pathname.lastIndexOf("/");
  const topic = pathname.slice(at + 1);
  if (search !== "" || hash !== "" || !TOPIC.test(topic))
    throw invalidField("url", "must be the address of a topic, like https://ntfy.sh/my-topic");
  return { server: origin + pathname.slice(0, at + 1), topic };
}
