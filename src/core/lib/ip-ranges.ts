/** Classifies IP addresses as private or public. Pure. */
import { BlockList, isIP } from "node:net";

// Two lists: in a shared one, the rule for IPv4-mapped IPv6 addresses would match all of IPv4.
const PRIVATE_4 = new BlockList();
const PRIVATE_6 = new BlockList();
for (const [net, bits] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  // A public address that answers machines of Azure only, with their configuration.
  ["168.63.129.16", 32],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const)
  PRIVATE_4.addSubnet(net, bits, "ipv4");
for (const [net, bits] of [
  ["::", 96],
  ["::ffff:0:0", 96],
  ["64:ff9b::", 96],
  ["64:ff9b:1::", 48],
  ["100::", 64],
  ["2001::", 32],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["fc00::", 7],
  ["fe80::", 9],
  ["ff00::", 8],
] as const) {
  PRIVATE_6.addSubnet(net, bits, "ipv6");
}

/**
 * True for loopback, private, link-local, carrier, documentation, multicast and reserved ranges,
 * and for IPv6 forms that hold an IPv4 address.
 */
export function isPrivate(address: string): boolean {
  return isIP(address) === 6 ? PRIVATE_6.check(address, "ipv6") : PRIVATE_4.check(address, "ipv4");
}
