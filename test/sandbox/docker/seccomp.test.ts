import { describe, expect, it } from "vitest";
import { needsOurProfile, seccompProfile } from "../../../src/sandbox/docker/hardening/seccomp.ts";

interface Argument {
  readonly index: number;
  readonly value: number;
}
interface Profile {
  readonly defaultAction: string;
  readonly archMap: readonly { architecture: string; subArchitectures: readonly string[] }[];
  readonly syscalls: readonly {
    names: readonly string[];
    action: string;
    args: readonly object[];
    errnoRet?: number;
  }[];
}
const profile = JSON.parse(seccompProfile()) as Profile;
const allowed = profile.syscalls.filter(({ action }) => action === "SCMP_ACT_ALLOW");

describe("[Y1] the seccomp profile", () => {
  it("denies by default and supports one instruction set", () => {
    expect(profile.defaultAction).toBe("SCMP_ACT_ERRNO");
    expect(profile.archMap.flatMap(({ subArchitectures }) => subArchitectures)).toEqual([]);
  });

  it("lists each call once, except those that depend on their arguments", () => {
    const plain = allowed.filter(({ args }) => args.length === 0).flatMap(({ names }) => names);
    expect(new Set(plain).size).toBe(plain.length);
    const bound = new Set(allowed.filter(({ args }) => args.length > 0).flatMap(({ names }) => names));
    expect([...bound].toSorted()).toEqual(["clone", "personality", "socket"]);
    expect(plain.filter((name) => bound.has(name))).toEqual([]);
  });

  it("allows TCP, UDP and ICMP of the internet's families, and no other protocol", () => {
    const sockets = allowed.filter(({ names }) => names.includes("socket")).map(({ args }) => args as Argument[]);
    const withFamily = (family: number) =>
      sockets.filter(([first]) => first?.value === family).map(([, second]) => second?.value ?? "any");
    for (const family of [2, 10])
      expect(withFamily(family).toSorted((a, b) => Number(a) - Number(b))).toEqual([0, 1, 6, 17, 58]);
    expect(withFamily(1)).toEqual(["any"]);
  });

  it("does not allow calls that help to escape", () => {
    const names = new Set(allowed.flatMap((rule) => rule.names));
    const never =
      `io_uring_setup io_uring_enter io_uring_register bpf unshare setns mount umount2 move_mount fsopen fsmount
      open_tree pivot_root chroot ptrace process_vm_readv process_vm_writev pidfd_getfd keyctl add_key
      request_key userfaultfd perf_event_open kexec_load kexec_file_load init_module finit_module
      delete_module open_by_handle_at name_to_handle_at iopl ioperm reboot swapon swapoff syslog acct
      quotactl fanotify_init settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname
      vhangup lookup_dcookie nfsservctl modify_ldt uselib ustat sysfs _sysctl move_pages migrate_pages
      kcmp clone3 process_madvise memfd_secret mount_setattr`.split(/\s+/);
    expect(never.filter((name) => names.has(name))).toEqual([]);
  });

  it("is used for engines older than version 25 and of unknown version", () => {
    expect(["20.10.24+dfsg1", "24.0.9", "", "dev"].map(needsOurProfile)).toEqual([true, true, true, true]);
    expect(["25.0.0", "28.2.2", "29.0.0-rc1"].map(needsOurProfile)).toEqual([false, false, false]);
  });
});
