/** The operator's console: slots, queue, host, stuck machines. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import type { Overview, WireTask } from "../../../../src/core/protocol/rest.ts";
import { Bar } from "../../components/bar.tsx";
import { Icon } from "../../components/icon.tsx";
import { Mini } from "../../components/lifecycle/mini.tsx";
import { client, problemText } from "../../lib/client.ts";
import { formatAge, formatDuration, formatElapsed, formatMb, formatRepo, pluralize } from "../../lib/format.ts";
import { useNow } from "../../lib/server-time.ts";
import { describeStep, describeWait, getAppearance } from "../../lib/tasks/task-view.ts";
import { FailuresCard, SpendCard, useFiguresPending } from "./figures.tsx";
import { DrainCard, QueueActions } from "./queue-actions.tsx";
import { ResultBanner } from "./result-banner.tsx";
import { StorageCard } from "./storage-card.tsx";
import { StopSheet, StuckCard, useStop } from "./stuck-card.tsx";

const REFRESH_MS = 3_000;
const BEGUN = ["provisioning", "running", "pushing", "retrying", "cancelling"] as const;
/** The most tasks of a list that are read: the newest ones. */
const READ_AT_MOST = 1_000;
const PAGE_LENGTH = 200;

/** Two lists: what has begun is older than what waits, and would be the first to be missing. */
async function readOpen(signal: AbortSignal): Promise<readonly WireTask[]> {
  const lists = await Promise.all([readAll(BEGUN, signal), readAll(["queued"], signal)]);
  return lists.flat();
}

async function readAll(state: readonly WireTask["state"][], signal: AbortSignal): Promise<readonly WireTask[]> {
  const tasks: WireTask[] = [];
  for (let cursor: string | null = null; tasks.length < READ_AT_MOST;) {
    const query = { state, limit: PAGE_LENGTH, ...(cursor === null ? {} : { cursor }) };
    const { items, next }: { items: readonly WireTask[]; next: string | null } = await client.tasks(query, { signal });
    tasks.push(...items);
    if (next === null) break;
    cursor = next;
  }
  return tasks;
}

export function Console() {
  const overview = useQuery({
    queryKey: ["overview"],
    queryFn: ({ signal }) => client.overview({ signal }),
    refetchInterval: REFRESH_MS,
  });
  const open = useQuery({
    queryKey: ["open-tasks"],
    queryFn: ({ signal }) => readOpen(signal),
    refetchInterval: REFRESH_MS,
  });
  const isPending = useFiguresPending() || open.isPending;
  const now = useNow();
  const problem = overview.error ?? open.error;
  return (
    <div className="app has-side">
      <Bar />
      <main className="page full" id="main">
        <header className="top">
          <h1>Console</h1>
        </header>
        {problem !== null && (
          <p className="banner st-failed" role="alert">
            {problemText(problem)}
          </p>
        )}
        {/* All of it comes at once: no card pushes another one down. */}
        {overview.data !== undefined && !isPending && (
          <Fleet overview={overview.data} tasks={open.data ?? []} now={now} />
        )}
      </main>
    </div>
  );
}

function Fleet({ overview, tasks, now }: { overview: Overview; tasks: readonly WireTask[]; now: number }) {
  const { queue, stuck } = overview;
  const waiting = tasks.filter((task) => task.state === "queued");
  const titles = new Map(tasks.map(({ id, title }) => [id, title]));
  const stop = useStop();
  return (
    <>
      <p className="read">
        {describeFleet(overview)}{" "}
        {stuck.length > 0 && (
          <b>
            {pluralize(stuck.length, "machine")} {stuck.length === 1 ? "needs" : "need"} attention.
          </b>
        )}
        {queue.reason !== null && <b> {queue.reason}</b>}
      </p>
      <QueueActions queue={queue} />
      <ResultBanner act={stop.act} name="Result of the stop" />
      <div className="grid console">
        {queue.drain !== null && <DrainCard drain={queue.drain} now={now} />}
        {stuck.map((machine) => (
          <StuckCard
            key={machine.id}
            machine={machine}
            title={titles.get(machine.id) ?? null}
            now={now}
            onAsk={stop.ask}
          />
        ))}
        <SlotsCard overview={overview} tasks={tasks.filter((task) => !isOutside(task))} now={now} />
        <HostCard overview={overview} />
        <QueueCard tasks={waiting} count={overview.counts.queued} now={now} />
        <CountsCard overview={overview} />
        <FailuresCard now={now} />
        <SpendCard now={now} />
        <OutsideCard tasks={tasks.filter((task) => task.state !== "queued" && isOutside(task))} now={now} />
        <StorageCard storage={overview.storage} />
      </div>
      <StopSheet stop={stop} />
    </>
  );
}

/** One text, so that its end does not move when a number in it grows. */
function describeFleet({ slots, counts, oldestOpenSeconds }: Overview): string {
  const waiting = counts.queued;
  const waits = waiting > 1 ? "wait" : "waits";
  const oldest =
    oldestOpenSeconds === null ? "" : `, the oldest open task is ${formatDuration(oldestOpenSeconds * 1_000)} old`;
  const tasks = waiting === 0 ? "no task" : pluralize(waiting, "task");
  return `${slots.used} of ${slots.max} slots are in use, ${tasks} ${waits}${oldest}.`;
}

/** A task that holds no slot: its container is gone until it goes on. */
const isOutside = (task: WireTask): boolean =>
  task.state === "queued" || task.state === "retrying" || task.phase === "parked";

function SlotsCard({ overview, tasks, now }: { overview: Overview; tasks: readonly WireTask[]; now: number }) {
  const { slots, sandbox } = overview;
  return (
    <section className="card c7" aria-labelledby="slots-title">
      <div className="card-top">
        <h2 id="slots-title">Slots</h2>
        <span className="note">
          {slots.used} of {slots.max}
          {sandbox.warm !== null &&
            ` · ${sandbox.warm.ready} of ${pluralize(sandbox.warm.wanted, "warm worker")} ready`}
        </span>
      </div>
      <div className="slots">
        {tasks.length === 0 && <p className="note">No task is running.</p>}
        {tasks.map((task) => (
          <SlotLink key={task.id} task={task} now={now} />
        ))}
      </div>
    </section>
  );
}

function SlotLink({ task, now }: { task: WireTask; now: number }) {
  const appearance = getAppearance(task);
  return (
    <Link className={`slot st-${appearance}`} to={taskAddress(task.id, "machine")}>
      <Icon name={`st-${appearance}`} />
      <span>
        <b>{task.title}</b>
        <small>
          {[describeStep(task).word, formatRepo(task.repo), task.owner.email ?? ""].filter(Boolean).join(" · ")}
        </small>
      </span>
      <span className="slot-end">
        <span className="num">{formatElapsed(now - Date.parse(task.startedAt ?? task.createdAt))}</span>
        <Mini appearance={appearance} />
      </span>
    </Link>
  );
}

function OutsideCard({ tasks, now }: { tasks: readonly WireTask[]; now: number }) {
  if (tasks.length === 0) return null;
  return (
    <section className="card c12" aria-labelledby="outside-title">
      <div className="card-top">
        <h2 id="outside-title">Parked and retrying</h2>
        <span className="note">without a slot</span>
      </div>
      <div className="slots">
        {tasks.map((task) => (
          <SlotLink key={task.id} task={task} now={now} />
        ))}
      </div>
    </section>
  );
}

function HostCard({ overview }: { overview: Overview }) {
  const { host, sandbox, queue } = overview;
  const used = host.memoryTotalMb - host.memoryFreeMb;
  return (
    <section className="card c5" aria-labelledby="host-title">
      <div className="card-top">
        <h2 id="host-title">Host</h2>
        <span className="note">
          {sandbox.kind}, {sandbox.isolates ? "isolates" : "does not isolate"}
        </span>
      </div>
      <Meter
        label="Load"
        value={host.load1}
        max={host.cpus}
        text={`${host.load1.toFixed(1)} on ${pluralize(host.cpus, "CPU")}`}
      />
      <Meter
        label="Memory"
        value={used}
        max={host.memoryTotalMb}
        text={`${formatMb(used)} of ${formatMb(host.memoryTotalMb)}`}
      />
      <Meter label="Server" value={host.rssMb} max={host.memoryTotalMb} text={formatMb(host.rssMb)} />
      <dl className="facts">
        <dt>Disk</dt>
        <dd>{formatMb(host.diskFreeMb)} free</dd>
        <dt>Containers</dt>
        <dd>
          {sandbox.containers},{" "}
          {sandbox.containers === sandbox.expected ? "as many as tasks need" : `${sandbox.expected} expected`}
        </dd>
        <dt>Engine</dt>
        <dd>
          {sandbox.error ?? (queue.breaker === "open" ? "fails; no task starts until it works again" : "answers")}
        </dd>
      </dl>
    </section>
  );
}

function Meter({ label, value, max, text }: { label: string; value: number; max: number; text: string }) {
  return (
    <div className="hostrow">
      <span>{label}</span>
      <progress className="gauge plain-gauge" max={max} value={Math.min(value, max)} aria-label={label}>
        {text}
      </progress>
      <span className="num">{text}</span>
    </div>
  );
}

/** Rows of the queue: more are a burden for a phone, and nobody reads them. */
const ROWS = 100;

/** @param count of all tasks that wait. */
function QueueCard({ tasks, count, now }: { tasks: readonly WireTask[]; count: number; now: number }) {
  const first = tasks.toSorted((a, b) => (a.id < b.id ? -1 : 1)).slice(0, ROWS);
  return (
    <section className="card c8" aria-labelledby="queue-title">
      <div className="card-top">
        <h2 id="queue-title">Queue</h2>
        <span className="note">{describeQueue(count, first.length)}</span>
      </div>
      {first.length > 0 && (
        <div className="tablewrap" tabIndex={0} role="region" aria-label="Queue, scrolls sideways">
          <table className="table">
            <thead>
              <tr>
                <th scope="col">Task</th>
                <th scope="col">Why it waits</th>
                <th scope="col">Since</th>
              </tr>
            </thead>
            <tbody>
              {first.map((task) => (
                <tr key={task.id}>
                  <td>
                    <Link to={taskAddress(task.id)}>
                      <span className="t">{task.title}</span>
                    </Link>
                  </td>
                  <td>{task.wait === null ? "starts now" : describeWait(task.wait)}</td>
                  <td className="num">{formatAge(Date.parse(task.createdAt), now)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function describeQueue(count: number, shown: number): string {
  if (count === 0) return "empty";
  return count > shown ? `${pluralize(count, "task")}, ${shown} of them below` : pluralize(count, "task");
}

function CountsCard({ overview }: { overview: Overview }) {
  return (
    <section className="card c4" aria-labelledby="counts-title">
      <div className="card-top">
        <h2 id="counts-title">Tasks by state</h2>
      </div>
      <dl className="facts">
        {Object.entries(overview.counts)
          .filter(([, count]) => count > 0)
          .map(([state, count]) => [<dt key={state}>{state}</dt>, <dd key={`${state} count`}>{count}</dd>])}
      </dl>
    </section>
  );
}
