/**
 * A mark that a process and everything that it starts carry, even in a new session and with a
 * cleaned environment: the limit of the resident set (RLIMIT_RSS). Every child inherits it, anybody
 * can read it in /proc/<pid>/limits, and Linux has ignored it since 2.4.30 (getrlimit(2)).
 *
 * The hard limit marks a sandbox, the soft limit a command in it. The numbers are so large that a
 * program that does look at the limit (sort) finds enough. A process can remove its soft mark, and
 * its hard mark with the privilege to raise limits.
 */
import { createHash } from "node:crypto";

export interface ProcessMark {
  readonly kind: "soft" | "hard";
  /** KiB, as `ulimit -m` takes it. */
  readonly kib: string;
}

/** Ranges do not overlap, and a hard limit is never below a soft one. KiB. */
const BASE = { soft: 2n ** 50n, hard: 2n ** 51n } as const;
const DIGEST_BYTES = 6;

/** @param text names what is marked; the same text is the same mark. */
export function createMark(kind: ProcessMark["kind"], text: string): ProcessMark {
  const digest = createHash("sha256").update(text).digest().readUIntBE(0, DIGEST_BYTES);
  return { kind, kib: String(BASE[kind] + BigInt(digest)) };
}

/** @param limits the content of /proc/<pid>/limits. */
export function hasMark(limits: string, { kind, kib }: ProcessMark): boolean {
  const [, soft, hard] = /^Max resident set\s+(\S+)\s+(\S+)/m.exec(limits) ?? [];
  return (kind === "soft" ? soft : hard) === String(BigInt(kib) * 1_024n);
}

/**
 * Arguments of `/bin/bash` that mark the process and run a program in its place. Without the mark
 * where the limit cannot be set.
 */
export function runMarked({ kib }: ProcessMark, program: string, args: readonly string[]): string[] {
  return ["--norc", "-c", 'ulimit -S -m "$0" 2>/dev/null; exec "$@"', kib, program, ...args];
}
