/**
 * What a worker may push: the commands at the head of a receive-pack request, read before git sees
 * a byte (rule S4). Format: gitprotocol-pack(5), "Reference Update Request"; pkt-lines:
 * gitprotocol-common(5).
 */

export interface RefCommand {
  readonly oldId: string;
  readonly newId: string;
  readonly ref: string;
}

export type RefUpdateCheck =
  /** The commands are not all here yet. */
  | { readonly kind: "more" }
  /** Not what git sends; nothing can be said about refs. */
  | { readonly kind: "malformed"; readonly why: string }
  | { readonly kind: "refused"; readonly commands: readonly RefCommand[]; readonly why: string }
  | { readonly kind: "allowed"; readonly commands: readonly RefCommand[] };

const HEAD_LIMIT = 64 * 1024;
const LINE = /^([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) (refs\/[^\0\n]{1,250})$/;
const ZERO = /^0+$/;

/** @param head what has arrived of the body; @param allowed the refs that may be made or moved. */
export function checkRefUpdates(head: Buffer, allowed: ReadonlySet<string>): RefUpdateCheck {
  const commands: RefCommand[] = [];
  let at = 0;
  for (;;) {
    if (at > HEAD_LIMIT) return { kind: "malformed", why: "too many refs in one push" };
    if (head.length < at + 4) return { kind: "more" };
    const size = head.toString("latin1", at, at + 4);
    if (!/^[0-9a-f]{4}$/.test(size)) return { kind: "malformed", why: "a length is not hexadecimal" };
    const length = Number.parseInt(size, 16);
    if (length === 0) break;
    if (length < 5 || length > 65_520) return { kind: "malformed", why: "a length is out of range" };
    if (head.length < at + length)
      return length > HEAD_LIMIT ? { kind: "malformed", why: "a line is too long" } : { kind: "more" };
    const [line = "", capabilities = ""] = head
      .toString("utf8", at + 4, at + length)
      .replace(/\n$/, "")
      .split("\0");
    at += length;
    if (/(^| )push-options/.test(capabilities)) return { kind: "malformed", why: "push options are not supported" };
    if (line.startsWith("shallow ")) continue;
    const [, oldId = "", newId = "", ref = ""] = LINE.exec(line) ?? [];
    if (ref === "") return { kind: "malformed", why: "this is not a ref update" };
    commands.push({ oldId, newId, ref });
  }
  return verdict(commands, allowed);
}

function verdict(commands: readonly RefCommand[], allowed: ReadonlySet<string>): RefUpdateCheck {
  for (const { newId, ref } of commands) {
    if (!allowed.has(ref))
      return { kind: "refused", commands, why: `only ${[...allowed].join(" and ")} can be pushed` };
    if (ZERO.test(newId)) return { kind: "refused", commands, why: "refs are not deleted here" };
  }
  return { kind: "allowed", commands };
}

/**
 * The answer that makes git print the reason for each ref: a report-status inside side band 1, as
 * receive-pack sends it.
 */
export function formatRejection(commands: readonly RefCommand[], why: string): Buffer {
  const report = Buffer.concat([
    line("unpack ok\n"),
    ...commands.map(({ ref }) => line(`ng ${ref} ${why}\n`)),
    Buffer.from("0000"),
  ]);
  const sideBand = Buffer.concat([Buffer.from([1]), report]);
  const message = Buffer.concat([Buffer.from([2]), Buffer.from(`slipway: ${why}\n`)]);
  return Buffer.concat([packet(message), packet(sideBand), Buffer.from("0000")]);
}

function packet(body: Buffer): Buffer {
  return Buffer.concat([Buffer.from((body.length + 4).toString(16).padStart(4, "0")), body]);
}

function line(text: string): Buffer {
  return packet(Buffer.from(text));
}
