/**
 * Bounded volumes for a local engine: a sparse image file with ext4, attached to a loop device.
 * Names derive from the volume's name, so that work that a crash interrupted is found again and
 * finished or removed.
 *
 * L1 An image appears complete, by a hard link, and is never created again: of two concurrent
 *    creators the second uses the image of the first.
 * L2 Devices are attached and detached under a lock on the image: no image gets two devices, and no
 *    device is detached that belongs to another image by then.
 * L3 Volumes refer to a symbolic link beside the image instead of a device, because device numbers
 *    change when the machine restarts. The link is set immediately before each use.
 */
import { randomBytes } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { link, rename, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { errorMessage } from "../../../core/error.ts";
import { ProcessStartError, runTool as runBounded } from "../../../core/lib/runtime/process-group.ts";
import { INODE_BYTES, WORKER_UID } from "../container-spec.ts";

const TIMEOUT_MS = 20_000;
const MIB = 1_024 * 1_024;
const IMAGE = ".img";
const DEVICE = ".dev";
const DRAFT = ".new";
/** An older draft was left by a crash, ms. */
const STALE_MS = 60_000;
/** A file system with less than this left counts as full. */
const MIN_FREE = { bytes: MIB, inodes: 16 } as const;
const TOOLS = ["losetup", "flock", "mkfs.ext4", "debugfs", "dumpe2fs"];

/** `flock` creates a missing image as an empty file; such a file is removed again. */
const ATTACH = 'test -s "$1" || { rm -f "$1"; exit 1; }; exec losetup --nooverlap --find --show "$1"';
const DETACH =
  'for device in $(losetup --associated "$1" --noheadings --output NAME); do losetup --detach "$device" || exit; done; rm -f "$1"';

const FORMAT = 'image=$1; shift; mkfs.ext4 "$@" "$image" && exec debugfs -w -R "rmdir lost+found" "$image"';

export interface DiskImage {
  readonly name: string;
  /** Allocated on the host's disk. */
  readonly bytes: number;
  /** Epoch ms. */
  readonly changedAt: number;
}

async function runTool(name: string, ...args: string[]): Promise<string> {
  const env = { PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`, LC_ALL: "C" };
  return (await runBounded(name, args, { env, timeoutMs: TIMEOUT_MS })).trim();
}

async function isInstalled(tool: string): Promise<boolean> {
  try {
    await runTool(tool, "-V");
    return true;
  } catch (error) {
    return !(error instanceof ProcessStartError && error.isMissing);
  }
}

/** L2 */
function runLocked(image: string, script: string): Promise<string> {
  return runTool("flock", image, "sh", "-c", script, "sh", image);
}

const getLastLine = (error: unknown): string => errorMessage(error).trim().split("\n").at(-1) ?? "";

export class LoopDevices {
  readonly #dir: string;
  readonly #crashpoint: (name: string) => void;
  #obstacle: Promise<string | null> | null = null;

  /** @param dir owned by the coordinator; its disk stores the images. */
  constructor(dir: string, crashpoint: (name: string) => void = () => undefined) {
    this.#dir = dir;
    this.#crashpoint = crashpoint;
  }

  /** Why loop devices do not work on this machine; null = they do. Determined once. */
  obstacle(): Promise<string | null> {
    return (this.#obstacle ??= this.#findObstacle());
  }

  /** On the disk that holds the images. */
  folder(): string {
    return existsSync(this.#dir) ? this.#dir : dirname(this.#dir);
  }

  /** The path that the engine mounts for this volume. */
  devicePath(name: string): string {
    return join(this.#dir, name + DEVICE);
  }

  /**
   * Creates the image unless it exists, and attaches it to `devicePath`. Idempotent. Rejects when
   * no loop device is free.
   * @param from an image of this size to begin with; where it cannot be copied, the disk is empty.
   */
  async attach(name: string, sizeMb: number, from: string | null = null): Promise<void> {
    if (!existsSync(this.#imagePath(name))) await this.#createImage(name, sizeMb, from);
    this.#crashpoint("disk.made");
    await this.reattach(name);
    this.#crashpoint("disk.attached");
  }

  /** Makes the image a file at `path` too, which stays. It must not be written to any more. */
  async keep(name: string, path: string): Promise<void> {
    await link(this.#imagePath(name), path).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
      return copySparse(this.#imagePath(name), path);
    });
  }

  /** Attaches an existing image to `devicePath` (again). @returns false when none exists. */
  async reattach(name: string): Promise<boolean> {
    const image = this.#imagePath(name);
    if (!existsSync(image)) return false;
    const device = await runLocked(image, ATTACH);
    const draft = this.#draftPath(name);
    await symlink(device, draft);
    await rename(draft, this.devicePath(name));
    return true;
  }

  /** True when nothing more can be written. The image must not be mounted. */
  async isFull(name: string): Promise<boolean> {
    if (!existsSync(this.#imagePath(name))) return false;
    const output = await runTool("dumpe2fs", "-h", this.#imagePath(name));
    const parse = (field: string): number =>
      Number(new RegExp(`^${field}:\\s+(\\d+)$`, "m").exec(output)?.[1] ?? Infinity);
    // ext4 reserves clusters for its own use: 2 % of the blocks, at most 4,096.
    const blocks = parse("Free blocks") - Math.min(parse("Block count") / 50, 4_096);
    return blocks * parse("Block size") < MIN_FREE.bytes || parse("Free inodes") < MIN_FREE.inodes;
  }

  /** Removes device and image, which must not be mounted any more. Idempotent. */
  async detach(name: string): Promise<void> {
    rmSync(this.devicePath(name), { force: true });
    if (existsSync(this.#imagePath(name))) await runLocked(this.#imagePath(name), DETACH);
  }

  /** All images. Removes stale drafts. */
  list(): DiskImage[] {
    if (!existsSync(this.#dir)) return [];
    return readdirSync(this.#dir).flatMap((file) => {
      const path = join(this.#dir, file);
      // Of a draft that is a link, its own age: the device that it names can be old.
      const stats = lstatSync(path, { throwIfNoEntry: false });
      const changedAt = stats?.mtimeMs ?? 0;
      if (file.endsWith(DRAFT) && Date.now() - changedAt > STALE_MS) rmSync(path, { force: true });
      if (stats === undefined || !file.endsWith(IMAGE)) return [];
      return [{ name: file.slice(0, -IMAGE.length), bytes: stats.blocks * 512, changedAt }];
    });
  }

  #imagePath(name: string): string {
    return join(this.#dir, name + IMAGE);
  }

  #draftPath(name: string): string {
    return join(this.#dir, `${name}.${randomBytes(6).toString("hex")}${DRAFT}`);
  }

  async #findObstacle(): Promise<string | null> {
    if (process.platform !== "linux") return "loop devices require Linux";
    if (process.getuid?.() !== 0) return "the server does not run as root";
    if (!existsSync("/dev/loop-control")) return "there is no /dev/loop-control";
    for (const tool of TOOLS)
      if (!(await isInstalled(tool))) return `${tool} is not installed (packages util-linux, mount, e2fsprogs)`;
    return await this.#tryMount();
  }

  /** Root in a container usually has the tools but not the permission to use them. */
  async #tryMount(): Promise<string | null> {
    const probe = `probe-${process.pid}-${randomBytes(3).toString("hex")}`;
    const mountPoint = mkdtempSync(join(tmpdir(), "slipway-probe-"));
    try {
      await this.#createImage(probe, 16);
      await this.reattach(probe);
      await runTool("mount", "-t", "ext4", this.devicePath(probe), mountPoint);
      await runTool("umount", mountPoint);
      return null;
    } catch (error) {
      return getLastLine(error) || "a loop device cannot be mounted";
    } finally {
      await this.detach(probe).catch(() => undefined);
      rmdirSync(mountPoint);
    }
  }

  /** L1 */
  async #createImage(name: string, sizeMb: number, from: string | null = null): Promise<void> {
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    const draft = this.#draftPath(name);
    try {
      await writeFile(draft, "", { flag: "wx", mode: 0o600 });
      const isCopy = from !== null && (await tryCopy(from, draft));
      if (!isCopy) {
        await truncate(draft, 0);
        await truncate(draft, sizeMb * MIB);
        await formatImage(draft);
      }
      await link(draft, this.#imagePath(name));
    } catch (error) {
      if (!existsSync(this.#imagePath(name))) throw error;
    } finally {
      rmSync(draft, { force: true });
    }
  }
}

/** Holes stay holes, and nothing is copied where the file system shares blocks. */
async function copySparse(from: string, to: string): Promise<void> {
  await runTool("cp", "--sparse=auto", "--reflink=auto", from, to);
}

async function tryCopy(from: string, to: string): Promise<boolean> {
  try {
    await copySparse(from, to);
    return true;
  } catch {
    return false;
  }
}

/** No journal, because the content does not outlive the attempt; no lost+found folder. */
async function formatImage(path: string): Promise<void> {
  const extended = `lazy_itable_init=1,nodiscard,root_owner=${WORKER_UID}:${WORKER_UID}`;
  const size = ["-m", "0", "-i", String(INODE_BYTES)];
  const options = ["-q", "-F", ...size, "-O", "^has_journal,^resize_inode", "-E", extended];
  // One process of the server for both.
  await runTool("sh", "-c", FORMAT, "sh", path, ...options);
}
