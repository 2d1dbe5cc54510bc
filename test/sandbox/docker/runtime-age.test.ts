/** What `slipway doctor` says about the age of the engine and of its container runtime. */
import { expect, it } from "vitest";
import { checkHost } from "../../../src/sandbox/docker/hardening/host-checks.ts";

const runtimeOf = (runc: string | null) =>
  checkHost({}, "socket", runc).find(({ name }) => name === "container runtime");

it("a runc with published ways out of a container is named, and one with their fixes is not", () => {
  const old = ["1.0.3", "1.1.5+ds1", "1.1.15", "1.2.7", "1.3.2", "1.4.0-rc.2"];
  const narrow = ["1.2.8", "1.2.10", "1.3.3", "1.3.5", "1.4.0-rc.3", "1.4.0", "1.4.2", "1.5.0-rc.2"];
  const fixed = ["1.3.6", "1.4.3", "1.5.0-rc.3", "1.5.0", "1.10.0", "2.0.0"];
  expect(old.filter((version) => !runtimeOf(version)?.detail.includes("known ways out"))).toEqual([]);
  expect(narrow.filter((version) => !runtimeOf(version)?.detail.includes("narrow way (CVE-2026-41579"))).toEqual([]);
  expect([...old, ...narrow].filter((version) => runtimeOf(version)?.state !== "degraded")).toEqual([]);
  expect([...fixed, null, "crun"].filter((version) => runtimeOf(version)?.state !== "full")).toEqual([]);
});

const engineOf = (version: string) =>
  checkHost({ ServerVersion: version }, "socket").find(({ name }) => name === "engine");

it("an engine with published holes is named with what they do, and one with their fixes is not", () => {
  const old = ["17.03.2-ce", "20.10.24+dfsg1", "24.0.9", "25.0.1", "25.0.2", "27.5.1", "28.5.2", "29.5.0"];
  const fixed = ["29.5.1", "29.9.0", "29.10.0-rc.1", "30.0.0", "", "dev", "5.4.2"];
  expect(old.filter((version) => engineOf(version)?.state !== "degraded")).toEqual([]);
  expect(fixed.filter((version) => engineOf(version)?.state !== "full")).toEqual([]);
  expect(engineOf("20.10.24+dfsg1")?.detail).toMatch(
    /^Docker 20\.10\.24\+dfsg1, .*CVE-2024-23651.*CVE-2026-41567.*Update to/,
  );
  expect(engineOf("27.5.1")?.detail).not.toContain("CVE-2024");
});
