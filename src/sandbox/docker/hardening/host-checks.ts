/** Rates how well the host confines a worker's container, for `slipway doctor`. */
import type { TransportKind } from "../transport/transport.ts";
import { needsOurProfile } from "./seccomp.ts";
import type { HardeningCheck } from "../../../core/ports/sandbox.ts";

/** The part of the engine's /info that is read. Other and older engines may lack any field. */
export interface EngineFacts {
  readonly ServerVersion?: string;
  readonly OperatingSystem?: string;
  readonly Architecture?: string;
  readonly KernelVersion?: string;
  readonly Driver?: string;
  readonly CgroupVersion?: string;
  readonly CgroupDriver?: string;
  readonly MemoryLimit?: boolean;
  readonly SwapLimit?: boolean;
  readonly PidsLimit?: boolean;
  readonly CPUCfsQuota?: boolean;
  readonly CpuCfsQuota?: boolean;
  readonly SecurityOptions?: readonly string[] | null;
  readonly LiveRestoreEnabled?: boolean;
}

const full = (name: string, detail: string): HardeningCheck => ({ name, state: "full", detail });
const degraded = (name: string, detail: string): HardeningCheck => ({ name, state: "degraded", detail });

/** One result per mechanism. `doctor --json` exposes the names, so they do not change. */
export function checkHost(
  facts: EngineFacts,
  transport: TransportKind,
  runcVersion: string | null = null,
): HardeningCheck[] {
  const options = (facts.SecurityOptions ?? []).map((option) => option.split(",")[0]?.replace("name=", "") ?? "");
  const version = facts.ServerVersion ?? "";
  return [
    checkEngine(facts),
    checkRuntime(runcVersion),
    checkSeccomp(version, options),
    options.includes("apparmor") || options.includes("selinux")
      ? full("access control", options.includes("apparmor") ? "AppArmor" : "SELinux")
      : degraded(
          "access control",
          "neither AppArmor nor SELinux: only the kernel's other restrictions apply (no capabilities, no network, read-only root)",
        ),
    checkUsers(options),
    checkCgroups(facts),
    checkLimits(facts),
    transport === "socket"
      ? full("door", "the broker's socket, mounted; no network")
      : full(
          "door",
          "through the engine; no network. A relay uses about 45 MB of each task's memory, and the warm pool is disabled",
        ),
    facts.LiveRestoreEnabled === true
      ? full("engine restart", "workers keep running (live-restore)")
      : degraded(
          "engine restart",
          'ends all workers, and their tasks are retried; "live-restore": true in the engine\'s daemon.json keeps them running',
        ),
  ];
}

type Version = readonly [major: number, minor: number, patch: number];

/** Published holes of the engine that concern people who let others choose images and commands. */
const ENGINE_HOLES: readonly { readonly before: Version; readonly text: string }[] = [
  {
    before: [25, 0, 2],
    text: "building from a hostile image can reach the host (CVE-2024-23651, CVE-2024-23652, CVE-2024-23653; before 24.0.9 also CVE-2024-24557)",
  },
  {
    before: [29, 5, 1],
    text: "`docker cp` with a hostile container can write to the host or run a program there (CVE-2026-41567, CVE-2026-41568, CVE-2026-42306): Slipway copies only into containers that do not run, and nothing compressed; do not copy by hand",
  },
];
/** Smaller numbers are of engines that are not Docker, such as Podman. */
const LEAST_DOCKER = 17;

const isBefore = (version: Version, other: Version): boolean => {
  const at = version.findIndex((part, i) => part !== other[i]);
  return at >= 0 && (version[at] ?? 0) < (other[at] ?? 0);
};

function checkEngine(facts: EngineFacts): HardeningCheck {
  const name = facts.ServerVersion || "of an unknown version";
  const summary = `Docker ${name}, ${facts.OperatingSystem ?? "?"}, kernel ${facts.KernelVersion ?? "?"}`;
  const [, major, minor, patch] = /^(\d+)\.(\d+)\.(\d+)/.exec(name) ?? [];
  const version: Version = [Number(major), Number(minor), Number(patch)];
  if (major === undefined || version[0] < LEAST_DOCKER) return full("engine", summary);
  const holes = ENGINE_HOLES.filter(({ before }) => isBefore(version, before)).map(({ text }) => text);
  if (holes.length === 0) return full("engine", summary);
  return degraded(
    "engine",
    `${summary}: ${holes.join("; ")}. Update to Docker 29.5.1 or newer, unless your distribution has corrected this one`,
  );
}

/**
 * The first of each series that keeps containers in: CVE-2025-31133, CVE-2025-52565 and
 * CVE-2025-52881; before, CVE-2024-21626. Distributions correct older ones and keep the number.
 */
const SAFE_RUNC: Readonly<Record<string, number>> = { "1.2": 8, "1.3": 3 };
/**
 * The first of each series without CVE-2026-41579 (low severity): the `/dev` of a hostile image
 * leads some writes of runc out of the container. Of 1.2 no such release is known.
 */
const WHOLE_RUNC: Readonly<Record<string, number>> = { "1.2": Infinity, "1.3": 6, "1.4": 3 };

function checkRuntime(version: string | null): HardeningCheck {
  const parts = /^(\d+)\.(\d+)\.(\d+)/
    .exec(version ?? "")
    ?.slice(1)
    .map(Number);
  if (version === null || parts === undefined) return full("container runtime", "not runc, or of an unknown version");
  const [major = 0, minor = 0, patch = 0] = parts;
  const least = SAFE_RUNC[`${major}.${minor}`] ?? (major > 1 || minor > 3 ? 0 : Infinity);
  const isEarlyCandidate = /^1\.4\.0-rc\.[12]\b/.test(version);
  if (patch >= least && !isEarlyCandidate) {
    const isWhole = patch >= (WHOLE_RUNC[`${major}.${minor}`] ?? 0) && !/^1\.5\.0-rc\.[12]\b/.test(version);
    if (isWhole) return full("container runtime", `runc ${version}`);
    return degraded(
      "container runtime",
      `runc ${version} lets a hostile image write to the host in a narrow way (CVE-2026-41579, low severity): update to 1.3.6, 1.4.3 or newer, unless your distribution has corrected this one, and allow only images that you trust (SLIPWAY_IMAGES)`,
    );
  }
  return degraded(
    "container runtime",
    `runc ${version} has known ways out of a container (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881; before 1.1.12 also CVE-2024-21626): update to 1.2.8, 1.3.3 or newer, unless your distribution has corrected this one`,
  );
}

function checkSeccomp(version: string, options: readonly string[]): HardeningCheck {
  if (!options.includes("seccomp"))
    return degraded(
      "system calls",
      "the engine filters none (no seccomp), so a worker can reach every vulnerable system call. Use another engine",
    );
  return full(
    "system calls",
    needsOurProfile(version) ? "Slipway's seccomp profile (the engine's is old)" : "the engine's seccomp profile",
  );
}

function checkUsers(options: readonly string[]): HardeningCheck {
  if (options.includes("rootless")) return full("users", "the engine runs without root");
  if (options.includes("userns"))
    return full("users", "a container's users are unprivileged on the host (userns-remap)");
  return degraded(
    "users",
    "workers run as an unprivileged user of the host (no userns-remap): after a breakout they are user 10001 there",
  );
}

function checkCgroups({ CgroupVersion: version, CgroupDriver: driver }: EngineFacts): HardeningCheck {
  const summary = `version ${version ?? "1"} (${driver ?? "?"})`;
  if (version === "2") return full("control groups", summary);
  return degraded(
    "control groups",
    `${summary}: an out-of-memory kill is attributed to its process less precisely than by version 2`,
  );
}

function checkLimits(facts: EngineFacts): HardeningCheck {
  const quota = facts.CPUCfsQuota ?? facts.CpuCfsQuota ?? true;
  const missing = [
    facts.MemoryLimit === false ? "memory" : null,
    facts.SwapLimit === false ? "swap (a worker may use as much swap as it has memory)" : null,
    facts.PidsLimit === false ? "processes (a fork bomb is not stopped)" : null,
    quota ? null : "processor time",
  ].filter((limit) => limit !== null);
  return missing.length === 0
    ? full("limits", "memory, swap, processes, processor time")
    : degraded("limits", `not enforced by this kernel: ${missing.join(", ")}`);
}
