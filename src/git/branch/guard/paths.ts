/** Findings by file name: folders that tools generate, and files that control other programs. */
import type { Found } from "../../../core/values/push-guard.ts";

export interface ChangedEntry {
  /** "000000" = it does not exist on that side. */
  readonly oldMode: string;
  readonly newMode: string;
  readonly object: string;
  readonly path: string;
}

const ABSENT = "000000";
const LINK = "120000";
const GITLINK = "160000";
/** Folders that package managers, compilers and test runners fill. */
const GENERATED: ReadonlySet<string> = new Set([
  "node_modules",
  "bower_components",
  "__pycache__",
  ".venv",
  "venv",
  ".tox",
  ".pytest_cache",
  ".mypy_cache",
  ".ruff_cache",
  ".gradle",
  ".next",
  ".nuxt",
  ".terraform",
  ".turbo",
  ".parcel-cache",
  "dist",
  "target",
  "coverage",
]);
const WORKFLOW =
  /^(?:\.github\/(?:workflows|actions)\/|\.gitlab-ci\.ya?ml$|\.gitlab\/ci\/|\.circleci\/|\.buildkite\/|\.woodpecker(?:\/|\.ya?ml$)|\.(?:forgejo|gitea)\/workflows\/|azure-pipelines\.ya?ml$|Jenkinsfile$|\.travis\.yml$|bitbucket-pipelines\.yml$)/;
const LOCK_FILE =
  /(?:^|\/)(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?|Cargo\.lock|poetry\.lock|uv\.lock|Pipfile\.lock|pdm\.lock|Gemfile\.lock|composer\.lock|go\.sum|flake\.lock|mix\.lock|pubspec\.lock|Podfile\.lock|packages\.lock\.json)$/;

/** The outermost generated folder of a path; null = none. */
export function generatedFolder(path: string): string | null {
  const parts = path.split("/");
  const at = parts.slice(0, -1).findIndex((part) => GENERATED.has(part));
  return at < 0 ? null : parts.slice(0, at + 1).join("/");
}

export const isLockFile = (path: string): boolean => LOCK_FILE.test(path);

/** @param tracked generated folders that the base has files in. */
export function inspectPaths(entries: readonly ChangedEntry[], tracked: ReadonlySet<string>): Found[] {
  const folders = new Map<string, number>();
  const found: Found[] = [];
  for (const { oldMode, newMode, path } of entries) {
    if (newMode === ABSENT) continue;
    const folder = generatedFolder(path);
    if (folder !== null && !tracked.has(folder)) folders.set(folder, (folders.get(folder) ?? 0) + 1);
    if (newMode === GITLINK && oldMode !== GITLINK)
      found.push({
        kind: "nested_repository",
        path,
        detail: "a repository inside of the repository, without its files",
      });
    if (WORKFLOW.test(path)) found.push({ kind: "workflow", path, detail: "runs in the pipeline, with its secrets" });
    if (LOCK_FILE.test(path)) found.push({ kind: "lock_file", path, detail: "a lock file has changed" });
  }
  for (const [path, files] of folders)
    found.push({ kind: "generated", path, detail: `a generated folder (${files} file${files === 1 ? "" : "s"})` });
  return found;
}

export const isNewLink = ({ newMode }: ChangedEntry): boolean => newMode === LINK;

/** The finding about a link; null when it stays within the repository. */
export function inspectLink(path: string, target: string): Found | null {
  const parts = path.split("/").slice(0, -1);
  let isOutside = target.startsWith("/");
  for (const part of target.split("/")) {
    if (part === "..") isOutside ||= parts.pop() === undefined;
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return isOutside ? { kind: "link", path, detail: "a link that leads out of the repository" } : null;
}
