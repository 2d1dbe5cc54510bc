import type { TransportKind } from "../transport/transport.ts";
import { needsOurProfile } from "./seccomp.ts";
import type { HardeningCheck } from "../../../core/ports/sandbox.ts";

/**
 * The parts of the engine's answers that are looked at; an older or another engine may lack any of
 * them.
 */
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
const weaker = (name: string, detail: string): HardeningCheck => ({ name, state: "weaker", detail });

/** One line for each thing that holds a container in its place. */
export function checkHost(facts: EngineFacts, door: TransportKind): HardeningCheck[] {
  const options = (facts.SecurityOptions ?? []).map((one) => one.split(",")[0]?.replace("name=", "") ?? "");
  const version = facts.ServerVersion ?? "";
  return [
    full(
      "engine",
      `Docker ${version || "of an unknown version"}, ${facts.OperatingSystem ?? "?"}, kernel ${facts.KernelVersion ?? "?"}`,
    ),
    seccomp(version, options),
    options.includes("apparmor") || options.includes("selinux")
      ? full("access control", options.includes("apparmor") ? "AppArmor" : "SELinux")
      : weaker(
          "access control",
          "neither AppArmor nor SELinux: the kernel's other walls (no capabilities, no network, read-only root) stand alone",
        ),
    users(options),
    cgroups(facts),
    limits(facts),
    door === "socket"
      ? full("door", "the broker's socket, mounted; no network")
      : full(
          "door",
          "through the engine; no network. A helper takes about 45 MB of each task's memory, and no worker is started ahead",
        ),
    facts.LiveRestoreEnabled === true
      ? full("engine restart", "workers live through it (live-restore)")
      : weaker(
          "engine restart",
          'ends all workers, and their tasks are tried again; "live-restore": true in the engine\'s daemon.json lets them live',
        ),
  ];
}

function seccomp(version: string, options: readonly string[]): HardeningCheck {
  if (!options.includes("seccomp"))
    return weaker(
      "system calls",
      "the engine filters none (no seccomp): an error in the kernel is all that a worker needs. Use another engine",
    );
  return full(
    "system calls",
    needsOurProfile(version) ? "Slipway's own list (this engine's is old)" : "the engine's list",
  );
}

function users(options: readonly string[]): HardeningCheck {
  if (options.includes("rootless")) return full("users", "the engine runs without root");
  if (options.includes("userns")) return full("users", "root of a container is nobody on the host (userns-remap)");
  return weaker(
    "users",
    "workers are an unprivileged user, but that of the host (no userns-remap): who breaks out is user 10001 there",
  );
}

function cgroups({ CgroupVersion: version, CgroupDriver: driver }: EngineFacts): HardeningCheck {
  const words = `version ${version ?? "1"} (${driver ?? "?"})`;
  if (version === "2") return full("control groups", words);
  return weaker(
    "control groups",
    `${words}: which process ended for want of memory is told less exactly than by version 2`,
  );
}

function limits(facts: EngineFacts): HardeningCheck {
  const quota = facts.CPUCfsQuota ?? facts.CpuCfsQuota ?? true;
  const missing = [
    facts.MemoryLimit === false ? "memory" : null,
    facts.SwapLimit === false ? "swap (a worker may use as much again as it has memory)" : null,
    facts.PidsLimit === false ? "processes (a fork bomb is not stopped)" : null,
    quota ? null : "processor time",
  ].filter((one) => one !== null);
  return missing.length === 0
    ? full("limits", "memory, swap, processes, processor time")
    : weaker("limits", `not kept by this kernel: ${missing.join(", ")}`);
}
