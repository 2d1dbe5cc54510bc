/**
 * The environment that programs of the agent inherit: the image's, without what belongs to the
 * worker. The attempt's token and the broker's address are among the latter.
 */
import { WORKER_ENV } from "../../../src/core/protocol/worker.ts";

/** The worker's own: its settings, its compile cache, and the shell that started it. */
const WITHHELD = /^(SLIPWAY_|NODE_COMPILE_CACHE$|PWD$|OLDPWD$|SHLVL$|_$)/;

/**
 * An empty variable counts as absent: the sandbox empties those of the image that would affect the
 * worker, and hands them over in `WORKER_ENV.imageEnvironment`.
 */
export function commandEnvironment(): Record<string, string> {
  const own = Object.entries(process.env).filter(
    (entry): entry is [string, string] => !WITHHELD.test(entry[0]) && entry[1] !== undefined && entry[1] !== "",
  );
  return { ...Object.fromEntries(own), ...readImageEnvironment() };
}

function readImageEnvironment(): Record<string, string> {
  const json = process.env[WORKER_ENV.imageEnvironment];
  return json === undefined ? {} : (JSON.parse(json) as Record<string, string>);
}
