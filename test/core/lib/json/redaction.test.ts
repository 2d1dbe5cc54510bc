/** Secrets are removed from text in the ways in which programs write them down. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Redactor, redactCredential, secretForms } from "../../../../src/core/lib/json/redaction.ts";

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

/** A secret without the characters of the mark, between other texts, in one of its forms. */
const secret = fc.stringMatching(/^[A-Za-z0-9+/=_ ö"%-]{10,40}$/).filter((text) => text.trim().length >= 10);
const inText = fc.tuple(
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.integer({ min: 0, max: 2 }),
  fc.nat(),
);
const write = (value: string, [before, after, offset, nth]: readonly [string, string, number, number]): string => {
  const around = Buffer.from(`${"x".repeat(offset)}${value}y`);
  const forms = [
    value,
    encodeURIComponent(value),
    around.toString("base64"),
    around.toString("base64url"),
    around.toString("hex"),
    JSON.stringify(value),
    new URLSearchParams({ value }).toString(),
  ];
  return before + (forms[nth % forms.length] ?? value) + after;
};
const leaks = (text: string, value: string): string[] => secretForms(value).filter((form) => text.includes(form));

describe("[S11] whatever the secret, the text around it and the encoding", () => {
  it("no form of it is left, also when the text arrives in pieces", () => {
    const property = fc.property(secret, inText, fc.array(fc.nat(200)), (value, place, cuts) => {
      const text = write(value, place);
      const known = new Redactor([value]);
      expect(leaks(text, value)).not.toEqual([]);
      expect(leaks(known.redact(text), value)).toEqual([]);
      const stream = known.stream();
      const ends = [...cuts.filter((at) => at < text.length).toSorted((a, b) => a - b), text.length];
      const pieces = ends.map((end, i) => stream.push(text.slice(ends[i - 1] ?? 0, end)));
      expect(leaks(pieces.join("") + stream.end(), value)).toEqual([]);
    });
    fc.assert(property, { numRuns: 300, seed: 7 });
  });

  it("a credential is removed too, a short one included, with the name before it", () => {
    const token = fc.oneof(secret, fc.stringMatching(/^[A-Za-z0-9]{4,7}$/));
    fc.assert(
      fc.property(token, fc.stringMatching(/^[a-z]{0,5}$/), (value, username) => {
        const basic = Buffer.from(`${username}:${value}`).toString("base64");
        const redacted = redactCredential(`< ${value} ${encodeURIComponent(value)} ${basic} >`, {
          username,
          token: value,
        });
        expect(redacted).toBe("< *** *** *** >");
      }),
      { numRuns: 300, seed: 7 },
    );
  });
});
