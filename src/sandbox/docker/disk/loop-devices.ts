/**
 * File systems in files: the one bound on a volume's size that every local engine keeps. A sparse
 * image with ext4 in it, attached to a loop device. Names are derived from the volume's, so that
 * what a crash left half done is found and finished or taken away.
 *
 * L1 An image appears whole, by a hard link, and is never made anew: whoever comes second uses the
 *    first one.
 * L2 Devices are given and taken under a lock on the image: no image gets two, and nobody takes one
 *    that is another image's by now.
 * L3 Volumes name a link beside the image, not a device: after a restart of the machine the same
 *    number may be another image's. The link is set right before each use.
 */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, statSync } from "node:fs";
import { link, rename, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { errorMessage } from "../../../core/error.ts";
import { INODE_BYTES, WORKER_UID } from "../container-spec.ts";

const run = promisify(execFile);
const TIMEOUT_MS = 20_000;
const MIB = 1_024 * 1_024;
const IMAGE = ".img";
const DEVICE = ".dev";
const DRAFT = ".new";
/** A draft that is older was left by a crash, ms. */
const STALE_MS = 60_000;
/** A file system with less than this left is full, bytes and files. */
const FULL = { bytes: MIB, files: 16 } as const;

/** `flock` makes the file if it is gone meanwhile: then it is empty. */
const ATTACH = 'test -s "$1" || { rm -f "$1"; exit 1; }; exec losetup --nooverlap --find --show "$1"';
const DETACH =
  'for one in $(losetup --associated "$1" --noheadings --output NAME); do losetup --detach "$one" || exit; done; rm -f "$1"';

export interface DiskImage {
  readonly name: string;
  /** On the host's disk. */
  readonly bytes: number;
  /** Epoch ms. */
  readonly changedAt: number;
}

export interface LoopDevices {
  /** Why this machine has none; null when it does. Asked once. */
  missing(): Promise<string | null>;
  /** The path that the engine mounts for this volume. */
  deviceOf(name: string): string;
  /**
   * Makes the file system unless there is one, and puts it behind `deviceOf`. Idempotent. Rejects
   * when there is no device left.
   */
  attach(name: string, sizeMb: number): Promise<void>;
  /** Puts an image that is there behind `deviceOf` again. @returns false when there is none. */
  reattach(name: string): Promise<boolean>;
  /** True when nothing more can be written. Only of one that is not mounted. */
  isFull(name: string): Promise<boolean>;
  /** Nothing may be mounted any more. Idempotent. */
  detach(name: string): Promise<void>;
  /** Images that are here; drafts of makers that were killed are removed on the way. */
  list(): DiskImage[];
}

async function tool(name: string, ...args: string[]): Promise<string> {
  const env = { PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`, LC_ALL: "C" };
  return (await run(name, args, { env, timeout: TIMEOUT_MS })).stdout.trim();
}

/** L2 */
function locked(image: string, script: string): Promise<string> {
  return tool("flock", image, "sh", "-c", script, "sh", image);
}

const lastLine = (error: unknown): string => errorMessage(error).trim().split("\n").at(-1) ?? "";

/** @param dir a folder of the coordinator's own, on a disk with room. */
export function openLoopDevices(dir: string, crashpoint: (name: string) => void = () => undefined): LoopDevices {
  let looked: Promise<string | null> | null = null;
  const imageOf = (name: string): string => join(dir, name + IMAGE);
  const deviceOf = (name: string): string => join(dir, name + DEVICE);

  async function look(): Promise<string | null> {
    if (process.platform !== "linux") return "loop devices are Linux's";
    if (process.getuid?.() !== 0) return "the server does not run as root";
    if (!existsSync("/dev/loop-control")) return "there is no /dev/loop-control";
    const tools = ["losetup", "flock", "mkfs.ext4", "debugfs", "dumpe2fs"];
    for (const name of tools) {
      const there = await tool(name, "-V").then(
        () => true,
        (error: unknown) => !(error instanceof Error && "code" in error && error.code === "ENOENT"),
      );
      if (!there) return `${name} is not installed (packages util-linux, mount, e2fsprogs)`;
    }
    return await tryOut();
  }

  /**
   * Having the tools does not mean being allowed to use them: in a container it usually is not so.
   */
  async function tryOut(): Promise<string | null> {
    const probe = `probe-${process.pid}-${randomBytes(3).toString("hex")}`;
    const place = mkdtempSync(join(tmpdir(), "slipway-probe-"));
    try {
      await make(probe, 16);
      await reattach(probe);
      await tool("mount", "-t", "ext4", deviceOf(probe), place);
      await tool("umount", place);
      return null;
    } catch (error) {
      return lastLine(error) || "a loop device cannot be mounted";
    } finally {
      await detach(probe).catch(() => undefined);
      rmdirSync(place);
    }
  }

  /** L1 */
  async function make(name: string, sizeMb: number): Promise<void> {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const draft = join(dir, `${name}.${randomBytes(6).toString("hex")}${DRAFT}`);
    try {
      await writeFile(draft, "", { flag: "wx", mode: 0o600 });
      await truncate(draft, sizeMb * MIB);
      const extended = `lazy_itable_init=1,nodiscard,root_owner=${WORKER_UID}:${WORKER_UID}`;
      // What is in it does not outlive the attempt: a journal would only cost.
      await tool(
        "mkfs.ext4",
        "-q",
        "-F",
        "-m",
        "0",
        "-i",
        String(INODE_BYTES),
        "-O",
        "^has_journal,^resize_inode",
        "-E",
        extended,
        draft,
      );
      // A workspace begins empty.
      await tool("debugfs", "-w", "-R", "rmdir lost+found", draft);
      await link(draft, imageOf(name));
    } catch (error) {
      if (!existsSync(imageOf(name))) throw error;
    } finally {
      rmSync(draft, { force: true });
    }
  }

  async function attach(name: string, sizeMb: number): Promise<void> {
    if (!existsSync(imageOf(name))) await make(name, sizeMb);
    crashpoint("disk.made");
    await reattach(name);
    crashpoint("disk.attached");
  }

  async function reattach(name: string): Promise<boolean> {
    const image = imageOf(name);
    if (!existsSync(image)) return false;
    const device = await locked(image, ATTACH);
    const draft = join(dir, `${name}.${randomBytes(6).toString("hex")}${DRAFT}`);
    await symlink(device, draft);
    await rename(draft, deviceOf(name));
    return true;
  }

  async function detach(name: string): Promise<void> {
    rmSync(deviceOf(name), { force: true });
    if (existsSync(imageOf(name))) await locked(imageOf(name), DETACH);
  }

  async function isFull(name: string): Promise<boolean> {
    if (!existsSync(imageOf(name))) return false;
    const said = await tool("dumpe2fs", "-h", imageOf(name));
    const number = (field: string): number =>
      Number(new RegExp(`^${field}:\\s+(\\d+)$`, "m").exec(said)?.[1] ?? Infinity);
    // The kernel keeps some for itself: a fiftieth, at most 4,096 blocks.
    const blocks = number("Free blocks") - Math.min(number("Block count") / 50, 4_096);
    return blocks * number("Block size") < FULL.bytes || number("Free inodes") < FULL.files;
  }

  function list(): DiskImage[] {
    if (!existsSync(dir)) return [];
    return readdirSync(dir).flatMap((file) => {
      const found = statSync(join(dir, file), { throwIfNoEntry: false });
      const changedAt = found?.mtimeMs ?? 0;
      if (file.endsWith(DRAFT) && Date.now() - changedAt > STALE_MS) rmSync(join(dir, file), { force: true });
      if (found === undefined || !file.endsWith(IMAGE)) return [];
      return [{ name: file.slice(0, -IMAGE.length), bytes: found.blocks * 512, changedAt }];
    });
  }

  return { missing: () => (looked ??= look()), deviceOf, attach, reattach, isFull, detach, list };
}
