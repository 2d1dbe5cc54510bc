/**
 * Checks the ref updates at the head of a receive-pack request before git reads a byte of it (rule
 * S4). Format: gitprotocol-pack(5), "Reference Update Request"; pkt-lines: gitprotocol-common(5).
 */

export interface RefCommand {
  readonly oldId: string;
  readonly newId: string;
  readonly ref: string;
}

export type RefUpdateCheck =
  /** The flush packet after the last command has not arrived. */
  | { readonly state: "incomplete" }
  | { readonly state: "malformed"; readonly reason: string }
  | { readonly state: "refused"; readonly commands: readonly RefCommand[]; readonly reason: string }
  | { readonly state: "allowed"; readonly commands: readonly RefCommand[] };

const HEAD_LIMIT = 64 * 1024;
const COMMAND = /^([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) (refs\/[^\0\n]{1,250})$/;
const ZERO = /^0+$/;

/**
 * @param head the bytes of the body that have arrived.
 * @param allowed refs that may be created or updated.
 */
export function checkRefUpdates(head: Buffer, allowed: ReadonlySet<string>): RefUpdateCheck {
  const commands: RefCommand[] = [];
  let offset = 0;
  for (;;) {
    if (offset > HEAD_LIMIT) return { state: "malformed", reason: "too many refs in one push" };
    if (head.length < offset + 4) return { state: "incomplete" };
    const size = head.toString("latin1", offset, offset + 4);
    if (!/^[0-9a-f]{4}$/.test(size)) return { state: "malformed", reason: "a packet length is not hexadecimal" };
    const length = Number.parseInt(size, 16);
    if (length === 0) break;
    if (length < 5 || length > 65_520) return { state: "malformed", reason: "a packet length is out of range" };
    if (head.length < offset + length)
      return length > HEAD_LIMIT ? { state: "malformed", reason: "a packet is too long" } : { state: "incomplete" };
    const [line = "", capabilities = ""] = head
      .toString("utf8", offset + 4, offset + length)
      .replace(/\n$/, "")
      .split("\0");
    offset += length;
    if (/(^| )push-options/.test(capabilities)) return { state: "malformed", reason: "push options are not supported" };
    if (line.startsWith("shallow ")) continue;
    const [, oldId = "", newId = "", ref = ""] = COMMAND.exec(line) ?? [];
    if (ref === "") return { state: "malformed", reason: "this is not a ref update" };
    commands.push({ oldId, newId, ref });
  }
  return checkCommands(commands, allowed);
}

function checkCommands(commands: readonly RefCommand[], allowed: ReadonlySet<string>): RefUpdateCheck {
  for (const { newId, ref } of commands) {
    if (!allowed.has(ref))
      return { state: "refused", commands, reason: `only ${[...allowed].join(" and ")} can be pushed` };
    if (ZERO.test(newId)) return { state: "refused", commands, reason: "refs are not deleted here" };
  }
  return { state: "allowed", commands };
}

/** A report-status in side band 1, as receive-pack sends it: git prints the reason for each ref. */
export function formatRejection(commands: readonly RefCommand[], reason: string): Buffer {
  const report = Buffer.concat([
    textPacket("unpack ok\n"),
    ...commands.map(({ ref }) => textPacket(`ng ${ref} ${reason}\n`)),
    Buffer.from("0000"),
  ]);
  const sideBand = Buffer.concat([Buffer.from([1]), report]);
  const message = Buffer.concat([Buffer.from([2]), Buffer.from(`slipway: ${reason}\n`)]);
  return Buffer.concat([packet(message), packet(sideBand), Buffer.from("0000")]);
}

function packet(body: Buffer): Buffer {
  return Buffer.concat([Buffer.from((body.length + 4).toString(16).padStart(4, "0")), body]);
}

function textPacket(text: string): Buffer {
  return packet(Buffer.from(text));
}
