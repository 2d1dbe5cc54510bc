/** Free disk space, the part of it that is promised to workspaces, and the largest consumers. */
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import type { Overview } from "../../../../src/core/protocol/rest.ts";
import { formatBytes, formatMb, formatRepo } from "../../lib/format.ts";

type Storage = Overview["storage"];

const MB = 1_000_000;

const SHOWN = 5;

export function StorageCard({ storage }: { storage: Storage }) {
  const { totalMb, freeMb, floorMb, lowMb, reserve, workspaces } = storage;
  const used = totalMb - freeMb;
  return (
    <section className="card c12" aria-labelledby="storage-title">
      <div className="card-top">
        <h2 id="storage-title">Storage</h2>
        <span className="note">
          {formatMb(freeMb)} of {formatMb(totalMb)} free
        </span>
      </div>
      <progress className="gauge plain-gauge" max={totalMb} value={used} aria-label="Used space of the disk">
        {formatMb(used)}
      </progress>
      <dl className="facts">
        <dt>Bounds</dt>
        <dd>
          no task starts below {formatMb(floorMb)} free, running ones end below {formatMb(lowMb)}
        </dd>
        {reserve !== null && (
          <>
            <dt>Reserve</dt>
            <dd>
              {formatMb(reserve.mb)} for the store alone
              {reserve.held ? "" : ": given up on a full disk, made again when there is room"}
            </dd>
          </>
        )}
        {workspaces !== null && (
          <>
            <dt>Workspaces</dt>
            <dd>
              {formatMb(workspaces.usedMb)} used, {formatMb(workspaces.promisedMb)} promised to open tasks,{" "}
              {formatMb(workspaces.leftMb)} left to promise
            </dd>
          </>
        )}
      </dl>
      <Largest storage={storage} />
    </section>
  );
}

function Largest({ storage: { workspaces, repositories } }: { storage: Storage }) {
  const open = (workspaces?.largest ?? []).slice(0, SHOWN);
  const stored = (repositories ?? []).filter(({ bytes }) => bytes >= MB).slice(0, SHOWN);
  if (open.length + stored.length === 0) return null;
  return (
    <ul className="rows set" aria-label="Largest">
      {open.map(({ taskId, usedMb, limitMb }) => (
        <li key={taskId}>
          <span>
            <b>Workspace</b>
            <small>
              <Task id={taskId} />
            </small>
          </span>
          <span className="num">
            {formatMb(usedMb)} of {formatMb(limitMb)}
          </span>
        </li>
      ))}
      {stored.map(({ kind, repo, taskId, userId, bytes }) => (
        <li key={`${kind} ${repo ?? ""} ${taskId ?? userId ?? ""}`}>
          <span>
            <b>
              {kind === "mirror"
                ? `Copy of ${repo === null ? "a repository" : formatRepo(repo)}`
                : "Repository of a task"}
            </b>
            {taskId !== null && (
              <small>
                <Task id={taskId} />
              </small>
            )}
          </span>
          <span className="num">{formatBytes(bytes)}</span>
        </li>
      ))}
    </ul>
  );
}

function Task({ id }: { id: string }) {
  return (
    <Link className="link mono" to={taskAddress(id)}>
      {id}
    </Link>
  );
}
