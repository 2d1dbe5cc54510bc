/**
 * Image references from users and repositories, and the operator's allow-list. Pure: no engine, no
 * DNS. References are compared, and passed to the engine, in canonical form: `registry/path:tag` or
 * `registry/path@digest`. So the engine never reads a name as the id of a local image.
 */
import { SlipwayError } from "../error.ts";
import { parseHostAndPort } from "./hostname.ts";

/** Selects Slipway's own image, also when the repository configures another one. */
export const OWN_IMAGE = "default";

const HUB = "docker.io";
const SEGMENT = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const LONGEST = 255;

/** True when the first segment of a name is a registry; otherwise it is an owner on Docker Hub. */
function isRegistry(part: string): boolean {
  return part === "localhost" || part.includes(".") || part.includes(":");
}

/** Image names are case-sensitive: a registry in upper case is invalid. */
function isRegistryHost(text: string): boolean {
  return text === text.toLowerCase() && parseHostAndPort(text) !== null;
}

/**
 * `node` -> docker.io/library/node, `acme/app` -> docker.io/acme/app, `ghcr.io/acme/app` stays.
 */
function withRegistry(name: string): string {
  const [first = "", ...rest] = name.split("/");
  if (rest.length === 0) return `${HUB}/library/${name}`;
  if (first === HUB || first === `index.${HUB}`)
    return `${HUB}/${rest.length === 1 ? "library/" : ""}${rest.join("/")}`;
  return isRegistry(first) ? name : `${HUB}/${name}`;
}

/**
 * @returns the canonical name. A tag next to a digest is dropped: the digest alone selects the
 * image.
 * @throws SlipwayError `invalid_image`.
 */
export function parseImageReference(text: string): string {
  const refuse = (): never => {
    throw new SlipwayError(
      "invalid_image",
      "Give a name like node:24, ghcr.io/owner/name:tag or owner/name@sha256:<digest>.",
    );
  };
  if (text.length > 2 * LONGEST) refuse();
  const [tagged = "", digest, ...more] = text.split("@");
  const colon = tagged.indexOf(":", tagged.lastIndexOf("/") + 1);
  const tag = colon < 0 ? "latest" : tagged.slice(colon + 1);
  const name = withRegistry(colon < 0 ? tagged : tagged.slice(0, colon));
  const [host = "", ...path] = name.split("/");
  const fits =
    isRegistryHost(host) && path.length > 0 && path.every((part) => SEGMENT.test(part)) && name.length <= LONGEST;
  // The engine reads 64 hexadecimal digits, and `sha256:` with any number of them, as an image id.
  if (!fits || more.length > 0 || !TAG.test(tag) || /^([0-9a-f]{64}|sha256)$/.test(path.at(-1) ?? "")) return refuse();
  if (digest === undefined) return `${name}:${tag}`;
  return DIGEST.test(digest) ? `${name}@${digest}` : refuse();
}

/**
 * Parses one entry of the operator's list: a name, or a prefix followed by `*`.
 * @returns the canonical form, or null when it is neither. A `*` before the first `/` would also
 * match other registries (`ghcr.io*` matches ghcr.io.example.com), so such a prefix is read as a
 * name on Docker Hub.
 */
export function parseImageRule(text: string): string | null {
  if (!text.endsWith("*")) {
    try {
      return parseImageReference(text);
    } catch {
      return null;
    }
  }
  const start = text.slice(0, -1);
  const [first = "", ...rest] = start.split("/");
  const canonical =
    rest.length > 0 && isRegistry(first) ? start : `${HUB}/${rest.length === 0 ? "library/" : ""}${start}`;
  const [host = ""] = canonical.split("/");
  return start !== "" && isRegistryHost(host) && /^[a-z0-9./_@-]*(:[\w.-]*)?$/.test(canonical.slice(host.length))
    ? `${canonical}*`
    : null;
}

/** @param image canonical @param rules as parseImageRule gives them. */
export function isImageAllowed(image: string, rules: readonly string[]): boolean {
  return rules.some((rule) => (rule.endsWith("*") ? image.startsWith(rule.slice(0, -1)) : image === rule));
}
