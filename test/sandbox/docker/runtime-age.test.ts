/** What `slipway doctor` says about the age of the program that confines containers. */
import { expect, it } from "vitest";
import { checkHost } from "../../../src/sandbox/docker/hardening/host-checks.ts";

const stateOf = (runc: string | null): string | undefined =>
  checkHost({}, "socket", runc).find(({ name }) => name === "container runtime")?.state;

it("a runc with published ways out of a container is named, and one with their fixes is not", () => {
  const old = ["1.0.3", "1.1.5+ds1", "1.1.15", "1.2.7", "1.3.2", "1.4.0-rc.2"];
  const fixed = ["1.2.8", "1.2.10", "1.3.3", "1.4.0-rc.3", "1.4.0", "2.0.0"];
  expect(old.filter((version) => stateOf(version) !== "degraded")).toEqual([]);
  expect([...fixed, null, "crun"].filter((version) => stateOf(version) !== "full")).toEqual([]);
});
