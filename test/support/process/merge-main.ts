/**
 * A second process that merges the packs of all repositories in the folder of its first argument,
 * and kills itself at the crash point of its second.
 */
import { openRepositories } from "../../../src/git/repositories.ts";

const [dir = "", crashAt] = process.argv.slice(2);
const crashpoint = (name: string): void => {
  if (name === crashAt) process.kill(process.pid, "SIGKILL");
};
const repos = openRepositories({ dir, trustedHosts: [], crashpoint });
await repos.mergePacks(new AbortController().signal);
