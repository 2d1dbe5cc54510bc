/** Secrets are removed from text in the ways in which programs write them down. */
import { describe, expect, it } from "vitest";
import { Redactor, secretForms } from "../../../../src/core/lib/json/redaction.ts";

const VALUE = 'p@ss wörd/+"9fK2mQz7';
const redactor = new Redactor([VALUE]);
const base64 = (text: string): string => Buffer.from(text).toString("base64");

describe("[S11] a secret is removed", () => {
  it.each([
    ["as it is", VALUE],
    ["in JSON", JSON.stringify({ token: VALUE })],
    ["URL-encoded", `https://x.example/?a=${encodeURIComponent(VALUE)}&b=1`],
    ["in a form", new URLSearchParams({ a: VALUE }).toString()],
    ["in base64", base64(VALUE)],
    ["in base64url", Buffer.from(VALUE).toString("base64url")],
    [
      "in basic authentication, at each offset",
      [..."abc"].map((_, i) => base64(`${"u".repeat(i)}:${VALUE}`)).join(" "),
    ],
    ["in base64 with text after it", base64(`${VALUE} and more`)],
    ["in hex", Buffer.from(VALUE).toString("hex")],
    ["in lower case, as in the name of a host", VALUE.toLowerCase()],
  ])("%s", (_, text) => {
    const redacted = redactor.redact(text);
    expect(redacted).toContain("[secret]");
    for (const form of secretForms(VALUE)) expect(redacted).not.toContain(form);
    expect(redacted.length).toBeLessThanOrEqual(text.length);
  });

  it("in the names and values of JSON, whatever else stands there", () => {
    const value = { [VALUE]: [1, null, { a: `x ${VALUE} y` }], ok: true };
    expect(redactor.redactValue(value)).toEqual({ "[secret]": [1, null, { a: "x [secret] y" }], ok: true });
  });

  it("line by line, where it has lines of its own length", () => {
    const key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n";
    const indented = key
      .split("\n")
      .map((line) => `    ${line}`)
      .join("\n");
    expect(new Redactor([key]).redact(indented)).not.toMatch(/MIIEv|AQEFAA/);
  });

  it("in a stream, wherever it is cut, and the rest arrives unchanged", () => {
    const text = `before ${VALUE} between ${VALUE.slice(0, 6)} and ${base64(VALUE)}.`;
    const expected = `before [secret] between ${VALUE.slice(0, 6)} and [secret].`;
    for (let size = 1; size <= text.length; size += 1) {
      const stream = redactor.stream();
      let out = "";
      for (let at = 0; at < text.length; at += size) out += stream.push(text.slice(at, at + size));
      expect(out + stream.end(), `pieces of ${size}`).toBe(expected);
    }
  });
});
