/** The processes of this machine, from /proc. Linux. */
import { readdirSync, readFileSync } from "node:fs";

/** Flag of the kernel: the process is ending. Set before its pipes close; it is a zombie later. */
const PF_EXITING = 0x4;

/** False for a zombie, and for a process that ends at this moment. */
export function isProcessAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state = "", , , , , , flags = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return !/[ZX]/.test(state) && (Number(flags) & PF_EXITING) === 0;
  } catch {
    return false;
  }
}

/** Sends SIGKILL. @returns false when it has ended already. */
export function killProcess(pid: number): boolean {
  try {
    return process.kill(pid, "SIGKILL");
  } catch {
    return false;
  }
}

/** Processes that are ending have no command line. */
function commandLines(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").replace(/\0$/, "").replaceAll("\0", " ");
      } catch {
        return "";
      }
    });
}

/** A process with exactly this command line, so not the shell that is to start it. */
export const isRunning = (commandLine: string): boolean => commandLines().includes(commandLine);

/** A process whose command line has this text in it: also a shell that would still start it. */
export const isAnyLeft = (text: string): boolean => commandLines().some((line) => line.includes(text));
