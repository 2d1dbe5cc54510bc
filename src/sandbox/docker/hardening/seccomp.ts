/**
 * Which system calls a worker's container may make: written from what shells, git, Node.js, Python,
 * compilers and their package managers need. Everything else fails with EPERM. It takes the place
 * of the engine's own profile where that is older than version 25: those let io_uring and sockets
 * to the hypervisor (vsock) through.
 *
 * Y1 No new namespaces: `clone` without their flags, `clone3` "does not exist" (its flags cannot be
 *    looked at; libc falls back), no unshare, no setns.
 * Y2 Sockets: unix, IPv4, IPv6, and netlink for asking about routes; no packets, no vsock, no
 *    bluetooth, no kernel crypto.
 * Y3 Nothing that looks into or steers another process (ptrace, process_vm_*), loads code into the
 *    kernel (bpf, modules, kexec), opens files past their path (handles), or has a long record of
 *    kernel faults (io_uring, userfaultfd, keyctl, perf, nested mounts).
 * Y4 One instruction set: 32-bit and x32 calls have other numbers and are refused whole.
 */
import type { Engine } from "../engine.ts";

const CALLS: Readonly<Record<string, string>> = {
  files: `access faccessat faccessat2 chdir fchdir chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown close close_range creat dup dup2 dup3
    fadvise64 fallocate fcntl fdatasync flock fsync ftruncate truncate getcwd getdents getdents64 link linkat lseek mkdir mkdirat mknod mknodat
    newfstatat fstat fstatfs stat lstat statfs statx open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readv readahead
    readlink readlinkat rename renameat renameat2 rmdir sendfile copy_file_range splice tee vmsplice symlink symlinkat sync syncfs sync_file_range
    umask unlink unlinkat utime utimes utimensat futimesat write writev getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr
    llistxattr flistxattr removexattr lremovexattr fremovexattr inotify_init inotify_init1 inotify_add_watch inotify_rm_watch memfd_create ioctl`,
  memory: `brk mmap mprotect mremap munmap madvise mincore msync mlock mlock2 mlockall munlock munlockall membarrier get_mempolicy set_mempolicy
    mbind pkey_alloc pkey_free pkey_mprotect`,
  processes: `fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid getpgid getpgrp getsid setpgid setsid set_tid_address
    set_robust_list get_robust_list rseq arch_prctl prctl capget capset getrlimit setrlimit prlimit64 getpriority setpriority ioprio_get ioprio_set
    sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr sched_yield
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval kill tkill tgkill pause alarm rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack restart_syscall pidfd_open pidfd_send_signal futex
    futex_waitv futex_wait futex_wake futex_requeue getrusage getcpu seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self`,
  users: `getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid`,
  sockets: `socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt sendto recvfrom sendmsg recvmsg sendmmsg
    recvmmsg shutdown`,
  time: `clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getitimer setitimer timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime`,
  waiting: `epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 poll ppoll select pselect6 signalfd signalfd4
    pipe pipe2 io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents`,
  shared: `shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive
    mq_notify mq_getsetattr`,
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
/**
 * Linux; without address randomisation (debuggers, sanitizers); asking what it is (personality(2)).
 */
const PERSONALITIES = [0x0, 0x40000, 0xffffffff];

const equals = (index: number, value: number): Argument => ({ index, value, valueTwo: 0, op: "SCMP_CMP_EQ" });
const allow = (names: readonly string[], ...args: readonly Argument[]): Rule => ({
  names,
  action: "SCMP_ACT_ALLOW",
  args,
});

/** The profile as the engine takes it in `SecurityOpt: ["seccomp=..."]`. */
export function seccompProfile(): string {
  const rules: Rule[] = [
    allow(Object.values(CALLS).flatMap((names) => names.split(/\s+/))),
    allow(["clone"], { index: 0, value: NEW_NAMESPACES, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }),
    { names: ["clone3"], action: "SCMP_ACT_ERRNO", args: [], errnoRet: ENOSYS },
    ...[AF_UNIX, AF_INET, AF_INET6].map((family) => allow(["socket"], equals(0, family))),
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

/** The first version whose own profile closes what ours does. */
const TRUSTED_ENGINE = 25;

/**
 * @param version as the engine says it, such as `20.10.24+dfsg1`; one that cannot be read counts as
 * old.
 */
export function needsOurProfile(version: string): boolean {
  const major = Number(/^(\d+)\./.exec(version)?.[1]);
  return !(major >= TRUSTED_ENGINE);
}

/**
 * Our own list when this engine needs it, else null. Asked once: one that is upgraded ends its
 * containers and, where it is ours to restart, us.
 */
export function openProfile(engine: Engine): () => Promise<string | null> {
  let profile: Promise<string | null> | null = null;
  return () => {
    profile ??= engine
      .call((docker) => docker.version())
      .then(({ Version }) => (needsOurProfile(Version) ? seccompProfile() : null));
    profile.catch(() => (profile = null));
    return profile;
  };
}
