/**
 * A seccomp profile for workers on Docker engines older than 25 (November 2026: still supported).
 * The default profile of those engines allows io_uring and vsock; newer engines use their own
 * profile. Delete this file when Docker 25 becomes the minimum version.
 *
 * The profile allows what shells, git, Node.js, Python, compilers and their package managers need.
 * Every other call fails with EPERM.
 *
 * Y1 No new namespaces: `clone` only without their flags; `clone3` fails with ENOSYS (a filter
 *    cannot read its flags, and libc falls back to `clone`); no unshare, no setns.
 * Y2 Sockets: unix, NETLINK_ROUTE, and TCP, UDP and ICMP over IPv4 and IPv6; no other protocol of
 *    these (SCTP, MPTCP, ...) and no other family (packet, vsock, bluetooth, AF_ALG).
 * Y3 No calls that read or control another process (ptrace, process_vm_*), load code into the
 *    kernel (bpf, modules, kexec), open files by handle, or have a history of kernel
 *    vulnerabilities (io_uring, userfaultfd, keyctl, perf, nested mounts).
 * Y4 One instruction set: 32-bit and x32 calls, whose numbers differ, are refused.
 */
import type { Engine } from "../engine.ts";

const CALLS: Readonly<Record<string, string>> = {
  files: `access faccessat faccessat2 chdir fchdir chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown close
    close_range creat dup dup2 dup3 fadvise64 fallocate fcntl fdatasync flock fsync ftruncate truncate getcwd getdents
    getdents64 link linkat lseek mkdir mkdirat mknod mknodat newfstatat fstat fstatfs stat lstat statfs statx open
    openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readv readahead readlink readlinkat rename
    renameat renameat2 rmdir sendfile copy_file_range splice tee vmsplice symlink symlinkat sync syncfs
    sync_file_range umask unlink unlinkat utime utimes utimensat futimesat write writev getxattr lgetxattr fgetxattr
    setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr inotify_init
    inotify_init1 inotify_add_watch inotify_rm_watch memfd_create ioctl`,
  memory: `brk mmap mprotect mremap munmap madvise mincore msync mlock mlock2 mlockall munlock munlockall membarrier
    get_mempolicy set_mempolicy mbind pkey_alloc pkey_free pkey_mprotect`,
  processes: `fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid getpgid getpgrp getsid
    setpgid setsid set_tid_address set_robust_list get_robust_list rseq arch_prctl prctl capget capset getrlimit
    setrlimit prlimit64 getpriority setpriority ioprio_get ioprio_set sched_getaffinity sched_setaffinity
    sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr sched_yield
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval kill tkill tgkill pause alarm rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
    sigaltstack restart_syscall pidfd_open pidfd_send_signal futex futex_waitv futex_wait futex_wake futex_requeue
    getrusage getcpu seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self`,
  users: `getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid
    setresgid setgroups setfsuid setfsgid`,
  sockets: `socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt sendto
    recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown`,
  time: `clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getitimer setitimer timer_create
    timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime`,
  waiting: `epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 poll ppoll
    select pselect6 signalfd signalfd4 pipe pipe2 io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents`,
  shared: `shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink
    mq_timedsend mq_timedreceive mq_notify mq_getsetattr`,
  machine: `uname sysinfo getrandom`,
};

interface Argument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo: number;
  readonly op: "SCMP_CMP_EQ" | "SCMP_CMP_MASKED_EQ";
}

interface Rule {
  readonly names: readonly string[];
  readonly action: "SCMP_ACT_ALLOW" | "SCMP_ACT_ERRNO";
  readonly args: readonly Argument[];
  readonly errnoRet?: number;
}

const ENOSYS = 38;
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (clone(2)). */
const NEW_NAMESPACES = 0x7e020000;
const [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK] = [1, 2, 10, 16];
/** The usual one of the type of socket; IPPROTO_ICMP, _TCP, _UDP, _ICMPV6 (protocols(5)). */
const INTERNET_PROTOCOLS = [0, 1, 6, 17, 58];
/** PER_LINUX; ADDR_NO_RANDOMIZE (debuggers, sanitizers); query only (personality(2)). */
const PERSONALITIES = [0x0, 0x40000, 0xffffffff];

const equals = (index: number, value: number): Argument => ({ index, value, valueTwo: 0, op: "SCMP_CMP_EQ" });
const allow = (names: readonly string[], ...args: readonly Argument[]): Rule => ({
  names,
  action: "SCMP_ACT_ALLOW",
  args,
});

/** The profile as JSON, for `SecurityOpt: ["seccomp=..."]`. */
export function seccompProfile(): string {
  const rules: Rule[] = [
    allow(Object.values(CALLS).flatMap((names) => names.split(/\s+/))),
    allow(["clone"], { index: 0, value: NEW_NAMESPACES, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }),
    { names: ["clone3"], action: "SCMP_ACT_ERRNO", args: [], errnoRet: ENOSYS },
    allow(["socket"], equals(0, AF_UNIX)),
    ...[AF_INET, AF_INET6].flatMap((family) =>
      INTERNET_PROTOCOLS.map((protocol) => allow(["socket"], equals(0, family), equals(2, protocol))),
    ),
    // Protocol 0 is NETLINK_ROUTE.
    allow(["socket"], equals(0, AF_NETLINK), equals(2, 0)),
    ...PERSONALITIES.map((value) => allow(["personality"], equals(0, value))),
  ];
  return JSON.stringify({
    defaultAction: "SCMP_ACT_ERRNO",
    archMap: [
      { architecture: "SCMP_ARCH_X86_64", subArchitectures: [] },
      { architecture: "SCMP_ARCH_AARCH64", subArchitectures: [] },
    ],
    syscalls: rules,
  });
}

/** The first major version of the engine with a default profile that is as strict as this one. */
const TRUSTED_ENGINE = 25;

/** @param version as reported by the engine, such as `20.10.24+dfsg1`; unreadable = old. */
export function needsOurProfile(version: string): boolean {
  const major = Number(/^(\d+)\./.exec(version)?.[1]);
  return !(major >= TRUSTED_ENGINE);
}

/**
 * A function that resolves to Slipway's profile when the engine needs it, else to null. The version
 * is read once: upgrading the engine ends its containers, so each attempt sees one version.
 */
export function createProfileLoader(engine: Engine): () => Promise<string | null> {
  let profile: Promise<string | null> | null = null;
  return () => {
    profile ??= engine
      .call((docker) => docker.version())
      .then(({ Version }) => (needsOurProfile(Version) ? seccompProfile() : null));
    profile.catch(() => (profile = null));
    return profile;
  };
}
