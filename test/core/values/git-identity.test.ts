import { expect, it } from "vitest";
import { identityOfEmail, parseGitIdentity } from "../../../src/core/values/git-identity.ts";

it("[W11] an identity is a name and an address on one line", () => {
  expect(parseGitIdentity("Ann Lee <ann@example.org>")).toEqual({ name: "Ann Lee", email: "ann@example.org" });
  for (const odd of [
    "Ann",
    "<ann@example.org>",
    "Ann <ann>",
    "Ann\nGIT: x <ann@example.org>",
    "Ann <ann@example.org\n>",
    "Ann <a@b> <c@d>",
  ])
    expect(parseGitIdentity(odd)).toBeNull();
});

it("[W11] a person without a public address is not named", () => {
  expect(identityOfEmail("ann@example.org")).toEqual({ name: "ann", email: "ann@example.org" });
  expect(identityOfEmail("operator@localhost")).toBeNull();
});
