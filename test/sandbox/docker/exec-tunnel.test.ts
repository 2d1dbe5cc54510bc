import { describe, expect, it } from "vitest";
import { checkHost } from "../../../src/sandbox/docker/hardening/host-checks.ts";
import { StandardOutput } from "../../../src/sandbox/docker/transport/stream-demux.ts";

function frame(stream: number, text: string): Buffer {
  const head = Buffer.alloc(8);
  head[0] = stream;
  head.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([head, Buffer.from(text)]);
}

describe("the engine's framing", () => {
  const whole = Buffer.concat([
    frame(1, "one "),
    frame(2, "an error"),
    frame(1, ""),
    frame(1, "two"),
    frame(3, "nobody's"),
  ]);

  it.each([1, 2, 7, 8, 9, 1_000])("gives the standard output alone, however it is cut (%i bytes)", async (size) => {
    const output = new StandardOutput();
    for (let at = 0; at < whole.length; at += size) output.write(whole.subarray(at, at + size));
    output.end();
    const pieces: Buffer[] = [];
    for await (const piece of output) pieces.push(piece as Buffer);
    expect(Buffer.concat(pieces).toString()).toBe("one two");
  });
});

describe("what an engine can do", () => {
  const facts = {
    ServerVersion: "27.3.1",
    CgroupVersion: "2",
    MemoryLimit: true,
    SwapLimit: true,
    PidsLimit: true,
    CPUCfsQuota: true,
    SecurityOptions: ["name=apparmor", "name=seccomp,profile=builtin", "name=userns"],
    LiveRestoreEnabled: true,
  };
  const weak = (changes: object) =>
    checkHost({ ...facts, ...changes }, "socket")
      .filter(({ state }) => state === "degraded")
      .map(({ name, detail }) => `${name}: ${detail}`);

  it("an engine with everything has no gap", () => {
    expect(weak({})).toEqual([]);
  });

  it.each([
    [{ SecurityOptions: ["name=apparmor", "name=userns"] }, /^system calls: .*filters none/],
    [{ SecurityOptions: ["name=seccomp", "name=rootless"] }, /^access control: neither/],
    [{ SecurityOptions: ["name=seccomp", "name=selinux"] }, /^users: .*10001/],
    [{ CgroupVersion: "1" }, /^control groups: version 1/],
    [{ SwapLimit: false }, /^limits: .*swap/],
    [{ PidsLimit: false }, /^limits: .*fork bomb/],
    [{ LiveRestoreEnabled: false }, /^engine restart: .*live-restore/],
  ])("a gap is said with what it means: %o", (changes, words) => {
    expect(weak(changes)).toEqual([expect.stringMatching(words)]);
  });

  it("an engine that says nothing about itself counts as one without walls", () => {
    expect(checkHost({}, "tunnel").filter(({ state }) => state === "degraded").length).toBeGreaterThanOrEqual(4);
  });
});
