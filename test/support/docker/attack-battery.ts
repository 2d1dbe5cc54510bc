/**
 * Escapes that a hostile agent tries: name, command, and the refusal of the kernel or the engine.
 * Each command prints REACHED when it succeeds. `control` states whether it succeeds in an
 * unconfined container (root with capabilities, the host's network, processes and files): the
 * positive control of the attempt.
 */
export interface AttackAttempt {
  readonly name: string;
  readonly command: string;
  readonly refusal: RegExp;
  /**
   * `same`: refused there as well, on some machine. `harmful`: would change the machine that runs
   * the tests.
   */
  readonly control: "reaches" | "harmful" | "same";
}

export interface Facts {
  /** Addresses under which the host can be reached, also by containers. */
  readonly addresses: readonly string[];
  readonly tcpPort: number;
  readonly udpPort: number;
  /** Where the coordinator and the upstream listen on the host's loopback. */
  readonly loopbackPorts: readonly number[];
  readonly abstractName: string;
  /** Another container with a network, and its port. */
  readonly container: { readonly address: string; readonly port: number };
  readonly dataDir: string;
  readonly serverPid: number;
  readonly otherTask: string;
  readonly resolvers: readonly string[];
}

const CALLS = {
  x64: {
    mount: 165,
    chroot: 161,
    sethostname: 170,
    clock_settime: 227,
    add_key: 248,
    keyctl: 250,
    bpf: 321,
    perf: 298,
    setns: 308,
    kexec: 246,
    initModule: 175,
    reboot: 169,
    swapon: 167,
    syslog: 103,
    pivot: 155,
    openByHandle: 304,
    userfaultfd: 323,
    iopl: 172,
    acct: 163,
    quotactl: 179,
    unshare: 272,
  },
  arm64: {
    mount: 40,
    chroot: 51,
    sethostname: 161,
    clock_settime: 112,
    add_key: 217,
    keyctl: 219,
    bpf: 280,
    perf: 241,
    setns: 268,
    kexec: 104,
    initModule: 105,
    reboot: 142,
    swapon: 224,
    syslog: 116,
    pivot: 41,
    openByHandle: 265,
    userfaultfd: 282,
    iopl: -1,
    acct: 89,
    quotactl: 60,
    unshare: 97,
  },
} as const;
type Call = keyof (typeof CALLS)["x64"];

const NO =
  /EPERM|must be superuser|Operation not permitted|Permission denied|not implemented|Function not implemented/i;
const NO_NET = /ENETUNREACH|ECONNREFUSED|EADDRNOTAVAIL|EACCES|EPERM|ETIMEDOUT|EAI_AGAIN|ENOTFOUND|EHOSTUNREACH|EINVAL/;

/** A system call by number; what the kernel says when it refuses. */
function syscall(call: Call, args: string): string {
  const calls = CALLS[process.arch === "arm64" ? "arm64" : "x64"];
  return `perl -e 'my @args = (${args}); $! = 0; my $r = syscall(${calls[call]}, @args); print $r == -1 ? "$!\\n" : "REACHED $r\\n"'`;
}

const tcp = (host: string, port: number): string =>
  `node -e 'const s = require("net").connect({ host: "${host}", port: ${port}, timeout: 3000 }); s.on("connect", () => { console.log("REACHED"); process.exit() });
   s.on("timeout", () => { console.log("ETIMEDOUT"); process.exit() }); s.on("error", (e) => console.log(e.code))'`;
const udp = (host: string, port: number): string =>
  `node -e 'const s = require("dgram").createSocket("udp${host.includes(":") ? 6 : 4}"); s.on("message", () => { console.log("REACHED"); process.exit() });
   s.on("error", (e) => { console.log(e.code); process.exit() }); s.send(Buffer.from("0001010000010000000000000161076578616d706c6503636f6d0000010001", "hex"), ${port}, "${host}", (e) => { if (e) { console.log(e.code); process.exit() } });
   setTimeout(() => { console.log("ETIMEDOUT"); process.exit() }, 1500)'`;
/** Prints REACHED when the file can be read, or written when there is `write`. */
const open = (path: string, mode: "read" | "write"): string =>
  mode === "read" ? `head -c 1 ${path} >/dev/null && echo REACHED` : `(: >> ${path}) && echo REACHED`;

export function attackBattery(facts: Facts): AttackAttempt[] {
  return [...files(facts), ...processes(facts), ...coordinator(), ...networks(facts)];
}

function files({ dataDir, otherTask }: Facts): AttackAttempt[] {
  const absent = /No such file/;
  const readOnly = /Read-only file system/;
  const list: [string, string, RegExp, AttackAttempt["control"]][] = [
    [
      "the coordinator's key",
      open(`/host${dataDir}/operator.token ${dataDir}/operator.token`, "read"),
      absent,
      "reaches",
    ],
    ["the coordinator's database", open(`/host${dataDir}/slipway.db ${dataDir}/slipway.db`, "read"), absent, "same"],
    [
      "another task's socket",
      `ls -d /host${dataDir}/run/${otherTask}-a1 /run/slipway/../${otherTask}-a1 && echo REACHED`,
      absent,
      "same",
    ],
    [
      "any socket but its own",
      "find / -type s -not -path '/proc/*' -not -path /run/slipway/b.sock 2>/dev/null | grep . && echo REACHED || echo none",
      /none/,
      "reaches",
    ],
    [
      "the engine's socket",
      "ls /var/run/docker.sock /run/docker.sock /host/run/docker.sock && echo REACHED",
      absent,
      "same",
    ],
    ["the folder of its socket: a new file", open("/run/slipway/x", "write"), readOnly, "same"],
    ["the folder of its socket: the socket removed", "rm -f /run/slipway/b.sock && echo REACHED", readOnly, "same"],
    [
      "the folder of its socket: the socket renamed",
      "mv /run/slipway/b.sock /run/slipway/c.sock && echo REACHED",
      readOnly,
      "same",
    ],
    [
      "the folder of its socket: a link in the socket's place",
      "ln -sf /tmp/x /run/slipway/b.sock && echo REACHED",
      readOnly,
      "same",
    ],
    ["the folder of its socket: open to all", "chmod 777 /run/slipway/b.sock && echo REACHED", readOnly, "same"],
    ["the worker's program", open("/worker/worker.mjs", "write"), /Read-only file system|Permission denied/, "same"],
    [
      "the worker's program, replaced",
      "mv /worker /tmp/worker && echo REACHED",
      /Read-only file system|Permission denied/,
      "same",
    ],
    ["the image", "touch /usr/local/bin/git && echo REACHED", readOnly, "reaches"],
    [
      "a user of its own",
      "echo 'x::0:0::/:/bin/sh' >> /etc/passwd && echo REACHED",
      /Read-only file system|Permission denied/,
      "reaches",
    ],
    ["the names of hosts", open("/etc/hosts", "write"), /Read-only file system|Permission denied/, "same"],
    [
      "kernel memory",
      `${open("/proc/kcore", "read")} | grep . || (head -c 1 /proc/kcore | grep -c . )`,
      /Permission denied|^0$/m,
      "same",
    ],
    [
      "kernel settings",
      open("/proc/sys/kernel/core_pattern", "write"),
      /Read-only file system|Permission denied/,
      "reaches",
    ],
    [
      "the magic key",
      open("/proc/sysrq-trigger", "write"),
      /Read-only file system|Permission denied|No such file/,
      "harmful",
    ],
    ["the machine's memory", open("/dev/mem", "read"), absent, "same"],
    [
      "the kernel's messages",
      "dd if=/dev/kmsg bs=8192 count=1 2>&1 >/dev/null | grep -q '1+0\\|0+1' && echo REACHED || ls /dev/kmsg",
      absent,
      "reaches",
    ],
    ["the disks", "ls /dev | grep -E '^(sd|vd|nvme|xvd|loop|dm-)' && echo REACHED || echo none", /none/, "same"],
    [
      "more devices than it needs",
      "ls /dev | grep -vxE 'core|fd|full|mqueue|null|ptmx|pts|random|shm|stderr|stdin|stdout|tty|urandom|zero' && echo REACHED || echo none",
      /none/,
      "reaches",
    ],
    ["a device of its own", "mknod /tmp/disk b 8 0 && echo REACHED", /Operation not permitted/, "reaches"],
    [
      "a control group of its own",
      "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x && echo REACHED",
      /Read-only file system|Permission denied/,
      "same",
    ],
    [
      "the release agent",
      "find /sys/fs/cgroup -name release_agent -writable | grep . && echo REACHED || echo none",
      /none/,
      "same",
    ],
    [
      "its own memory limit",
      "find /sys/fs/cgroup -name 'memory*max' -writable -o -name 'memory.limit_in_bytes' -writable | grep . && echo REACHED || echo none",
      /none/,
      "same",
    ],
    [
      "kernel objects",
      "find /sys -writable -type f 2>/dev/null | head -1 | grep . && echo REACHED || echo none",
      /none/,
      "same",
    ],
    ["shared memory of others", "ls /dev/shm | grep -v mine && echo REACHED || echo none", /none/, "same"],
    [
      "a message queue of others",
      "grep -c . /proc/sysvipc/msg /proc/sysvipc/shm | grep -v ':1$' && echo REACHED || echo none",
      /none/,
      "same",
    ],
  ];
  return list.map(([name, command, refusal, control]) => ({ name, command, refusal, control }));
}

function processes({ serverPid }: Facts): AttackAttempt[] {
  const list: [string, string, RegExp, AttackAttempt["control"]][] = [
    [
      "processes of the host",
      "cat /proc/[0-9]*/comm | grep -x dockerd && echo REACHED || echo none",
      /none/,
      "reaches",
    ],
    [
      "the coordinator's environment",
      `grep -c SLIPWAY_SECRET_KEY /proc/${serverPid}/environ && echo REACHED`,
      /No such file/,
      "reaches",
    ],
    [
      "secrets in any environment",
      "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -E '^(SLIPWAY_SECRET_KEY|ANTHROPIC_API_KEY|SLIPWAY_ADMIN_PASSWORD)=' && echo REACHED || echo none",
      /none/,
      "reaches",
    ],
    ["the coordinator's life", `kill -0 ${serverPid} && echo REACHED`, /No such process/, "reaches"],
    [
      "any capability",
      "grep -E '^Cap' /proc/self/status | grep -v 0000000000000000 && echo REACHED || echo none",
      /none/,
      "reaches",
    ],
    ["new privileges", "grep -qE 'NoNewPrivs:\\s+1' /proc/self/status && echo none || echo REACHED", /none/, "reaches"],
    [
      "system calls without a filter",
      "grep -qE 'Seccomp:\\s+2' /proc/self/status && echo none || echo REACHED",
      /none/,
      "reaches",
    ],
    [
      "root by su",
      "su root -c 'echo REACHED' </dev/null",
      /Authentication failure|must be run from a terminal|Cannot|Permission denied|System error/,
      "same",
    ],
    [
      "root by a setuid program",
      "cp /bin/bash /tmp/rootsh && chmod 4755 /tmp/rootsh && [ \"$(/tmp/rootsh -p -c 'id -u')\" = 0 ] && echo REACHED || echo none",
      /none/,
      "reaches",
    ],
    [
      "root by a setuid program of the image",
      "[ \"$(/usr/bin/mount 2>&1 >/dev/null; /usr/bin/newgrp root -c 'id -u' 2>/dev/null </dev/null)\" = 0 ] && echo REACHED || echo none",
      /none/,
      "same",
    ],
    ["root by asking", 'perl -e \'$< = 0; $> = 0; print $> == 0 ? "REACHED\\n" : "$!\\n"\'', NO, "reaches"],
    ["another group", 'perl -e \'$( = 0; $) = "0 0"; print $) =~ /^0 / ? "REACHED\\n" : "$!\\n"\'', NO, "reaches"],
    [
      "to be spared when memory is short",
      "echo -1000 > /proc/self/oom_score_adj && echo REACHED",
      /Permission denied/,
      "same",
    ],
    [
      "priority over others",
      "nice -n -10 true 2>&1 | grep -c 'cannot set' | sed 's/^0$/REACHED/;s/^1$/none/'",
      /none/,
      "reaches",
    ],
    ["more open files", "ulimit -n 1000000 && echo REACHED", /Operation not permitted/, "same"],
    ["core dumps", "ulimit -c unlimited && echo REACHED", /Operation not permitted/, "same"],
    [
      "a core dump by crashing",
      "cd /tmp && (ulimit -c; sh -c 'kill -SEGV $$'); ls /tmp/core* && echo REACHED",
      /No such file/,
      "same",
    ],
  ];
  return list.map(([name, command, refusal, control]) => ({ name, command, refusal, control }));
}

function coordinator(): AttackAttempt[] {
  const list: [string, string, AttackAttempt["control"]][] = [
    ["a mount", "mount -t tmpfs none /mnt && echo REACHED", "reaches"],
    ["a mount by system call", syscall("mount", '"none", "/tmp", "tmpfs", 0, 0'), "same"],
    ["the image made writable", "mount -o remount,rw / && echo REACHED", "same"],
    ["namespaces of its own", "unshare -r true && echo REACHED", "reaches"],
    ["a mount in namespaces of its own", "unshare -rm mount -t tmpfs none /mnt && echo REACHED", "reaches"],
    ["a network of its own", "unshare -rn true && echo REACHED", "reaches"],
    ["namespaces by system call", syscall("unshare", "0x10000000"), "reaches"],
    ["the init's namespaces", "nsenter -t 1 -m -n true && echo REACHED", "same"],
    ["another namespace by system call", syscall("setns", "0, 0"), "same"],
    ["another root", syscall("chroot", '"/tmp"'), "reaches"],
    ["another root by pivoting", syscall("pivot", '"/tmp", "/tmp"'), "same"],
    ["a file by its handle", syscall("openByHandle", "0, 0, 0"), "same"],
    ["the clock", syscall("clock_settime", '0, pack("qq", 1, 0)'), "harmful"],
    ["the clock by date", "date -s 2001-01-01 2>&1 >/dev/null || true", "harmful"],
    ["the machine's name", syscall("sethostname", '"owned", 5'), "harmful"],
    ["a key for the kernel", syscall("add_key", '"user", "slipway", "x", 1, -3'), "reaches"],
    ["the kernel's keys", syscall("keyctl", "0, -3, 0"), "reaches"],
    ["a program for the kernel", syscall("bpf", '0, pack("x64"), 64'), "same"],
    ["performance counters", syscall("perf", 'pack("x112"), 0, -1, -1, 0'), "same"],
    ["page faults of others", syscall("userfaultfd", "0"), "reaches"],
    ["a kernel module", syscall("initModule", '"", 0, ""'), "same"],
    ["another kernel", syscall("kexec", "0, 0, 0, 0"), "harmful"],
    ["a restart of the machine", syscall("reboot", "0xfee1dead, 672274793, 0, 0"), "harmful"],
    ["swap", syscall("swapon", '"/tmp/x", 0'), "same"],
    ["accounting", syscall("acct", '"/tmp/x"'), "same"],
    ["quotas", syscall("quotactl", '0, "", 0, 0'), "same"],
    ["the kernel's log", syscall("syslog", '3, " " x 4096, 4096'), "reaches"],
    ["the kernel's log by dmesg", "dmesg | head -1 | grep . && echo REACHED", "reaches"],
  ];
  return list.map(([name, command, control]) => ({ name, command, refusal: NO, control }));
}

function networks(facts: Facts): AttackAttempt[] {
  const { addresses, tcpPort, udpPort, loopbackPorts, abstractName, container, resolvers } = facts;
  const to = (name: string, command: string, control: AttackAttempt["control"] = "reaches"): AttackAttempt => ({
    name,
    command,
    refusal: NO_NET,
    control,
  });
  const perl = (code: string): string => `perl -MSocket -e '${code}'`;
  return [
    {
      name: "an interface",
      command: "ls /sys/class/net | grep -vx lo && echo REACHED || echo none",
      refusal: /none/,
      control: "reaches",
    },
    {
      name: "a route",
      command: "tail -n +2 /proc/net/route | grep . && echo REACHED || echo none",
      refusal: /none/,
      control: "reaches",
    },
    ...addresses.map((address) => to(`a service of the host at ${address}`, tcp(address, tcpPort))),
    ...addresses
      .filter((address) => !address.includes(":"))
      .map((address) => to(`a datagram to the host at ${address}`, udp(address, udpPort))),
    ...loopbackPorts.map((port, i) => to(`a service on the host's loopback (${i})`, tcp("127.0.0.1", port))),
    to("another container", tcp(container.address, container.port)),
    to("the metadata service", tcp("169.254.169.254", 80), "same"),
    to("the internet", tcp("1.1.1.1", 443), "same"),
    to("the internet by IPv6", tcp("2606:4700:4700::1111", 443), "same"),
    to("the local link by IPv6", tcp("fe80::1", 80), "same"),
    ...resolvers.map((address) => to(`DNS at ${address}`, udp(address, 53), "same")),
    to("DNS at a public server", udp("8.8.8.8", 53), "same"),
    to("a name", `node -e 'require("dns").lookup("example.com", (e) => console.log(e ? e.code : "REACHED"))'`, "same"),
    to(
      "a name, asked of the servers themselves",
      `node -e 'require("dns").resolve4("example.com", (e) => console.log(e ? e.code : "REACHED"))'`,
      "same",
    ),
    {
      name: "an abstract socket of the host",
      // The name as it is, and padded with zeros as older servers bind it.
      command: perl(
        `for my $form ("S a*", "S a108") { socket(S, AF_UNIX, SOCK_STREAM, 0); print connect(S, pack($form, 1, "\\0${abstractName}")) ? "REACHED\\n" : "$!\\n" }`,
      ),
      refusal: /Connection refused|No such file/,
      control: "reaches",
    },
    {
      name: "raw packets",
      command: perl(`print socket(S, AF_INET, SOCK_RAW, 1) ? "REACHED\\n" : "$!\\n"`),
      refusal: NO,
      control: "reaches",
    },
    {
      name: "packets of the link",
      command: perl(`print socket(S, 17, SOCK_RAW, 768) ? "REACHED\\n" : "$!\\n"`),
      refusal: NO,
      control: "reaches",
    },
    {
      name: "the loopback interface, changed by netlink",
      // RTM_NEWLINK for interface 1: its flag "up" taken away.
      command: perl(
        `socket(S, 16, SOCK_RAW, 0) or die "$!\\n"; send(S, pack("LSSLL CxSlLL", 32, 16, 5, 1, 0, 0, 0, 1, 0, 1), 0, pack("Sx2LL", 16, 0, 0)); recv(S, $b, 4096, 0); my $e = unpack("x16l", $b); $! = -$e; print $e == 0 ? "REACHED\\n" : "$!\\n"`,
      ),
      refusal: NO,
      control: "harmful",
    },
  ];
}
