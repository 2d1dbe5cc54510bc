import { describe, expect, it } from "vitest";
import { checkHost } from "../../../src/sandbox/docker/hardening/host-checks.ts";
import { StandardOutput, unframe } from "../../../src/sandbox/docker/transport/stream-demux.ts";

function frame(stream: number, text: string): Buffer {
  const head = Buffer.alloc(8);
  head[0] = stream;
  head.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([head, Buffer.from(text)]);
}

describe("the engine's framing", () => {
  const whole = Buffer.concat([
    frame(1, "first "),
    frame(2, "an error"),
    frame(1, ""),
    frame(1, "second"),
    frame(3, "other"),
  ]);

  it.each([1, 2, 7, 8, 9, 1_000])("yields only standard output for chunks of %i bytes", async (size) => {
    const output = new StandardOutput();
    for (let offset = 0; offset < whole.length; offset += size) output.write(whole.subarray(offset, offset + size));
    output.end();
    const pieces: Buffer[] = [];
    for await (const piece of output) pieces.push(piece as Buffer);
    expect(Buffer.concat(pieces).toString()).toBe("first second");
  });

  it("unframe joins all streams, and keeps what a truncated last frame contains", () => {
    expect(unframe(Buffer.concat([frame(1, "out "), frame(2, "error "), frame(1, "truncated").subarray(0, 12)]))).toBe(
      "out error trun",
    );
    expect(unframe(Buffer.from([1, 0, 0]))).toBe("");
  });
});

describe("hardening checks", () => {
  const facts = {
    ServerVersion: "29.6.0",
    CgroupVersion: "2",
    MemoryLimit: true,
    SwapLimit: true,
    PidsLimit: true,
    CPUCfsQuota: true,
    SecurityOptions: ["name=apparmor", "name=seccomp,profile=builtin", "name=userns"],
    LiveRestoreEnabled: true,
  };
  const listDegraded = (changes: object) =>
    checkHost({ ...facts, ...changes }, "socket")
      .filter(({ state }) => state === "degraded")
      .map(({ name, detail }) => `${name}: ${detail}`);

  it("an engine with all mechanisms has no degraded check", () => {
    expect(listDegraded({})).toEqual([]);
  });

  it.each([
    [{ SecurityOptions: ["name=apparmor", "name=userns"] }, /^system calls: .*filters none/],
    [{ SecurityOptions: ["name=seccomp", "name=rootless"] }, /^access control: neither/],
    [{ SecurityOptions: ["name=seccomp", "name=selinux"] }, /^users: .*10001/],
    [{ CgroupVersion: "1" }, /^control groups: version 1/],
    [{ SwapLimit: false }, /^limits: .*swap/],
    [{ PidsLimit: false }, /^limits: .*fork bomb/],
    [{ LiveRestoreEnabled: false }, /^engine restart: .*live-restore/],
  ])("a degraded check states its consequence: %o", (changes, detail) => {
    expect(listDegraded(changes)).toEqual([expect.stringMatching(detail)]);
  });

  it("an engine that reports no mechanisms is degraded", () => {
    expect(checkHost({}, "tunnel").filter(({ state }) => state === "degraded").length).toBeGreaterThanOrEqual(4);
  });
});
