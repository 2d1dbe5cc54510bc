import { describe, expect, it } from "vitest";
import { createDecider, isInstall } from "../../../src/coordinator/services/worker/setup-commands.ts";

describe("[C1] what is kept of a setup", () => {
  it.each([
    "npm ci",
    "npm  ci --prefer-offline --no-audit",
    "cd web && npm ci",
    "yarn",
    "yarn install --frozen-lockfile",
    "pnpm install --frozen-lockfile",
    "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
    "uv sync --extra=dev",
    "go mod download",
    "cargo fetch --locked",
    "bundle install",
  ])("an install: %s", (command) => expect(isInstall(command)).toBe(true));

  it.each([
    "make generated",
    "npm run build",
    "npm ci && npm run build",
    "npm ci; make",
    "npm ci & make",
    "npm ci || true",
    "npm ci > log",
    "cd web",
    "npm ci $(make)",
    "npm ci\nmake",
    "npx prisma generate",
    "yarn build",
  ])("something else, which runs each time: %s", (command) => expect(isInstall(command)).toBe(false));

  it("depends on files of package managers, on files that commands name, and on those that are asked for", () => {
    const decides = createDecider(["npm ci", "./scripts/setup.sh deps/dev.in"], ["prisma", "./schema.json"]);
    for (const path of [
      "package-lock.json",
      "packages/a/package.json",
      "go.sum",
      "requirements-dev.txt",
      "requirements/dev.txt",
      "scripts/setup.sh",
      "deps/dev.in",
      "web/deps/dev.in",
      "prisma/schema.prisma",
      "schema.json",
    ])
      expect(decides(path), path).toBe(true);
    for (const path of ["README.md", "src/index.ts", "prisma2/x", "ci/npm.md", "a/schema.json", "mypackage.json"])
      expect(decides(path), path).toBe(false);
  });
});
