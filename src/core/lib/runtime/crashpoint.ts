/**
 * Named crash points: no-ops in production. With SLIPWAY_CRASH="name:k" the process sends itself
 * SIGKILL at the k-th hit of that name. The names:
 * - store.before, store.inside, store.after: around a transaction.
 * - record.committed: after the commit, before the hint.
 * - follow.before, follow.after: around the commit of a task that settles with a follow-up task.
 * - effect.before, effect.after: around an effect.
 * - sandbox.before, sandbox.after: around `ensure`.
 * - sandbox.stopping, sandbox.ended: of a process sandbox, after the signal that asks the worker to
 *   end, and before the folder is removed.
 * - artifact.named, salvage.kept: the archive of an artifact is whole and has no metadata yet; it
 *   is kept, before its notice.
 * - mirror.fetched, repository.made: between the steps that prepare a task's repository.
 * - push.before, push.after: around the push, before its event.
 * - pull_request.after: after the pull request was opened, before its event.
 * - setup_cache.written: an archive is whole and has no name yet.
 * - setup_disk.written: a disk image of an archive is whole and has no name yet.
 * - disk.made, disk.attached (before the container starts), sandbox.removed, disk.volume.removed
 *   (after it): a container's disk.
 * - merge.packed, merge.moved, merge.proved, merge.half: the merge of a repository's packs.
 * - deletion.begun, deletion.files, deletion.part: a task is hidden, its files are removed, some of
 *   its rows are.
 * - keys.added, keys.resealed: in a rotation of the data keys, after the new ones and after each
 *   batch; keys.written, keys.wrapped: in one of the secret key.
 * - person.begun, person.files, person.part: an account is gone, the files of the person are, some
 *   rows are.
 * - adopted: the k-th open task of a boot is adopted.
 * - collection.removed: after each kind of resource of a garbage collection.
 * - timer, boot, migration.
 */
export type Crashpoint = (name: string) => void;

export const noCrash: Crashpoint = () => undefined;

/**
 * @param plan `name:k`; undefined or empty = never crashes. Each thread counts its own hits; no
 * name is used in two threads.
 */
export function crashpointFrom(plan: string | undefined): Crashpoint {
  if (plan === undefined || plan === "") return noCrash;
  const [name, k] = plan.split(":");
  let left = Number(k ?? "1");
  return (hit) => {
    if (hit === name && --left === 0) process.kill(process.pid, "SIGKILL");
  };
}
