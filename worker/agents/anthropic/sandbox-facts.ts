/** What a model must know of the sandbox and of its limits: sentences for the first message. */
import { formatTime, formatUsd } from "../../../src/core/lib/figures.ts";
import { readFileSync } from "node:fs";
import { arch, availableParallelism, totalmem } from "node:os";
import type { WorkerSpec } from "../../../src/core/protocol/worker.ts";
import { findPrograms } from "../../lib/programs.ts";
import { commandEnvironment } from "../../tools/shell/environment.ts";

/** Programs that a model likes to use; those that are there are named. */
const PROGRAMS = (
  "git rg fd jq yq curl wget make cmake ninja gcc clang node npm pnpm yarn bun deno python3 pip uv pytest " +
  "go cargo rustc java javac mvn gradle dotnet ruby bundle php composer perl sqlite3 psql docker zip unzip patch"
).split(" ");

const NETWORK = {
  none: "There is no network: nothing can be downloaded or installed.",
  allowlist: "Only hosts on the task's list can be reached, through the proxy in the environment; others are refused.",
  open: "Public hosts can be reached, through the proxy in the environment.",
} as const;

type Spec = Pick<WorkerSpec, "egress" | "budget" | "wallMs">;

export function describeSandbox({ egress, budget, wallMs }: Spec): string[] {
  const { PATH } = commandEnvironment();
  const [present, missing] = [findPrograms(PROGRAMS, PATH), ["python3", "node", "make", "gcc"]];
  const absent = missing.filter((name) => !present.includes(name));
  return [
    `The sandbox: ${readSystem()}, ${formatCount(readCores(), "core")}, ${(readMemory() / 2 ** 30).toFixed(1)} GiB of memory. ` +
      `Programs: ${present.join(", ") || "none of the usual ones"}${absent.length === 0 ? "" : `; not there: ${absent.join(", ")}`}.`,
    egress === undefined ? "There may be no network." : NETWORK[egress],
    `${describeLimits({ budget, wallMs })}.`,
  ];
}

function describeLimits({ budget, wallMs }: Omit<Spec, "egress">): string {
  const parts = [
    `${formatTime(wallMs)} of work`,
    ...(budget.usd === undefined ? [] : [`${formatUsd(budget.usd)} for the model`]),
    ...(budget.turns === undefined ? [] : [formatCount(budget.turns, "turn")]),
  ];
  return `The limits from now on: ${parts.join(", ")}`;
}

const formatCount = (count: number, unit: string): string => `${count} ${unit}${count === 1 ? "" : "s"}`;

function readSystem(): string {
  const name = /^PRETTY_NAME="?([^"\n]+)/m.exec(readText("/etc/os-release"))?.[1];
  return `${name ?? process.platform} on ${arch()}`;
}

/** A container may have fewer than its machine. */
function readCores(): number {
  const [quota, period] = readText("/sys/fs/cgroup/cpu.max").trim().split(" ").map(Number);
  const limit = quota !== undefined && period !== undefined && quota > 0 && period > 0 ? quota / period : Infinity;
  return Math.max(1, Math.round(Math.min(availableParallelism(), limit)));
}

function readMemory(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
