/**
 * Named crash points: no-ops in production. The crash suite sets SLIPWAY_CRASH="name:k" and the
 * process kills itself at the k-th hit of that name. The names: store.before, store.inside,
 * store.after (around a transaction), record.committed (before the announcement), effect.before,
 * effect.after, sandbox.before, sandbox.after (around ensure), push.before, push.after (around the
 * push, before its event), timer, boot, migration. Those of a container's disk: disk.made,
 * disk.attached (before the container starts), sandbox.removed, disk.volume.removed (after it).
 */
export type Crashpoint = (name: string) => void;

export const noCrash: Crashpoint = () => undefined;

/**
 * @param plan `name:k` or undefined (then it never crashes). Each thread counts its own hits; no
 * name is hit in two.
 */
export function crashpointFrom(plan: string | undefined): Crashpoint {
  if (plan === undefined || plan === "") return noCrash;
  const [name, k] = plan.split(":");
  let left = Number(k ?? "1");
  return (hit) => {
    if (hit === name && --left === 0) process.kill(process.pid, "SIGKILL");
  };
}
