/** Which commands of a setup are kept in a cache, and which files decide what they make. */

/** Files by which package managers decide what to install, by name, in any folder. */
const DECIDING =
  /^(?:package(?:-lock)?\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-(?:lock|workspace)\.yaml|bun\.lockb?|\.(?:npmrc|yarnrc|yarnrc\.yml|nvmrc|node-version|python-version|ruby-version|tool-versions)|[\w.-]*(?:requirements|constraints)[\w.-]*\.(?:txt|in)|pyproject\.toml|poetry\.lock|uv\.lock|pdm\.lock|Pipfile(?:\.lock)?|setup\.(?:py|cfg)|Gemfile(?:\.lock)?|[\w.-]+\.gemspec|composer\.(?:json|lock)|go\.(?:mod|sum|work|work\.sum)|Cargo\.(?:toml|lock)|rust-toolchain(?:\.toml)?|pom\.xml|(?:build|settings)\.gradle(?:\.kts)?|gradle\.lockfile|libs\.versions\.toml|mix\.(?:exs|lock)|pubspec\.(?:yaml|lock))$/;
const IN_REQUIREMENTS = /(?:^|\/)requirements\/[^/]+\.(?:txt|in)$/;

/** A command that installs what lock files name, and does nothing else. */
const INSTALLS = [
  /^npm (?:ci|install|i)$/,
  /^(?:pnpm|bun) (?:install|i)$/,
  /^yarn(?: install)?$/,
  /^(?:[\w./-]*\/)?pip3? install .+$/,
  /^(?:[\w./-]*\/)?python3? -m pip install .+$/,
  /^(?:uv|pdm) sync$/,
  /^(?:poetry|pipenv|bundle|composer) (?:install|sync)$/,
  /^go mod download$/,
  /^cargo fetch$/,
  /^mix deps\.get$/,
];
/** Commands that may stand next to an installation, because their results never become outdated. */
const PREPARES = [/^cd [\w./-]+$/, /^python3? -m venv [\w./-]+$/, /^corepack enable$/];
/** Characters that a shell interprets. */
const SHELL = /[;|<>`$(){}\n*?~!#\\]|(?<!&)&(?!&)/;
const OPTION = / --?[\w-]+(?:=[\w./:@-]+)?/g;

/** True for commands that install dependencies, by their text. */
export function isInstall(command: string): boolean {
  if (SHELL.test(command)) return false;
  const parts = command.split("&&").map((part) => part.trim().replaceAll(/\s+/g, " "));
  const matches = (patterns: readonly RegExp[], text: string): boolean =>
    patterns.some((pattern) => pattern.test(text) || pattern.test(text.replaceAll(OPTION, "")));
  return (
    parts.every((part) => matches([...INSTALLS, ...PREPARES], part)) && parts.some((part) => matches(INSTALLS, part))
  );
}

/**
 * Whether the content of a file of the repository decides what the commands make: files of package
 * managers, files that a command names, and those that the repository names.
 */
export function createDecider(commands: readonly string[], named: readonly string[]): (path: string) => boolean {
  const words = new Set(commands.flatMap((command) => command.split(/[\s"'=;|&<>()]+/)).map(withoutDot));
  words.delete("");
  const places = named.map((name) => withoutDot(name).replace(/\/+$/, ""));
  return (path) => {
    const steps = path.split("/");
    const ends = steps.map((_, index) => steps.slice(index).join("/"));
    return (
      DECIDING.test(steps.at(-1) ?? "") ||
      IN_REQUIREMENTS.test(path) ||
      ends.some((end) => words.has(end)) ||
      places.some((place) => path === place || path.startsWith(`${place}/`))
    );
  };
}

const withoutDot = (word: string): string => word.replace(/^(?:\.\/)+/, "");
