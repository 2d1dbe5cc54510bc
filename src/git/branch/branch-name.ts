/** Names of branches that a git host announces. */

/** In bytes. A path component of the file systems in use has at most 255. */
const LONGEST = 200;

/**
 * True for a name that git accepts as a branch (git-check-ref-format(1)) and that fits into a file
 * name. A host may announce any bytes.
 */
export function isBranchName(name: string): boolean {
  return (
    name !== "" &&
    name !== "@" &&
    name !== "HEAD" &&
    Buffer.byteLength(name) <= LONGEST &&
    !name.startsWith("-") &&
    // oxlint-disable-next-line no-control-regex
    !/[\u0000-\u0020\u007f~^:?*[\\\ufffd]|\.\.|@\{|\/\/|^\/|\/$|\.$|(?:^|\/)\.|\.lock(?:\/|$)/.test(name)
  );
}
