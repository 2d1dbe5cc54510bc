/** What a device was told: how much of it was shown, how fast, and how far each came. */
import { useId } from "react";
import type { WireNotification, WirePushDevice } from "../../../../../src/core/protocol/push.ts";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";
import { client } from "../../../lib/client.ts";
import { formatClock, formatDuration } from "../../../lib/format.ts";

type Kind = WireNotification["kind"];

const WORDS: Readonly<Record<Kind, string>> = {
  needs_you: "asks",
  budget: "budget",
  done: "done",
  failed: "failed",
  test: "test",
};
const LOOKS: Readonly<Record<Kind, string>> = {
  needs_you: "awaiting",
  budget: "awaiting",
  done: "done",
  failed: "failed",
  test: "queued",
};

export const delayOf = ({ dueAt, shownAt }: WireNotification): number[] =>
  shownAt === null ? [] : [Date.parse(shownAt) - Date.parse(dueAt)];

/** Quiet ones were never meant to be shown. */
export function Statistics({ last }: { last: readonly WireNotification[] }) {
  const sent = last.filter(({ ended }) => ended !== "quiet" && ended !== "obsolete");
  const delays = sent.flatMap(delayOf).toSorted((a, b) => a - b);
  const [median, slowest] = [delays[Math.floor(delays.length / 2)], delays.at(-1)];
  return (
    <dl className="statline">
      <div>
        <dt>Shown</dt>
        <dd>
          {delays.length} <small>of {sent.length}</small>
        </dd>
      </div>
      <div>
        <dt>Median</dt>
        <dd>{median === undefined ? "–" : formatDuration(median)}</dd>
      </div>
      <div>
        <dt>Slowest</dt>
        <dd>{slowest === undefined ? "–" : formatDuration(slowest)}</dd>
      </div>
      <div>
        <dt>Acted on</dt>
        <dd>{sent.filter(({ actedAt }) => actedAt !== null).length}</dd>
      </div>
    </dl>
  );
}

function describeRungs(row: WireNotification): string {
  const after = delayOf(row)[0];
  if (row.ended === "quiet") return "not sent: you looked at the task";
  if (row.ended === "obsolete") return "not sent: the task went on";
  if (row.actedAt !== null) return "acted on";
  if (row.openedAt !== null) return "opened";
  if (after !== undefined) return `shown after ${formatDuration(after)}`;
  if (row.passedAt !== null) return "not shown in 30 s, the next device was told";
  return row.acceptedAt === null ? (row.problem ?? "due") : "accepted by the push service";
}

/** @param where the device, in words. */
export function Last({ device, where }: { device: WirePushDevice; where: string }) {
  const id = useId();
  if (device.last.length === 0) return null;
  return (
    <section aria-labelledby={id}>
      <h2 className="over" id={id}>
        Last {device.last.length} on {where}
      </h2>
      <p className="note">Five rungs each: due, accepted, shown, opened, acted on.</p>
      <ul className="rows set">
        {device.last.map((row) => {
          const rungs = [row.dueAt, row.acceptedAt, row.shownAt, row.openedAt, row.actedAt];
          return (
            <li key={row.id} className={`st-${LOOKS[row.kind]}`}>
              <Icon name={row.kind === "test" ? "bell" : `st-${LOOKS[row.kind]}`} className="state-ic" />
              <span>
                <b>{row.title}</b>
                <small>
                  {WORDS[row.kind]} · {formatClock(Date.parse(row.dueAt))} · {describeRungs(row)}
                </small>
              </span>
              <span className="rung" aria-hidden="true">
                {rungs.map((at, index) => (
                  <i key={index} className={at === null ? "" : "y"} />
                ))}
              </span>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** @param tested the device that the work tests: its removal is said. */
export type Run = (work: () => Promise<unknown>, tested?: WirePushDevice) => void;

interface DeviceSheetProps {
  readonly device: WirePushDevice;
  readonly run: Run;
  readonly onClose: () => void;
}

/** The page of a device that is not this one. */
export function DeviceSheet({ device, run, onClose }: DeviceSheetProps) {
  const act = useAct();
  const test = (): void => run(() => act.run(() => client.push.test(device.id)), device);
  const remove = (): void => {
    run(() => client.push.deleteDevice(device.id));
    onClose();
  };
  return (
    <Sheet title={device.label} isOpen onClose={onClose}>
      <Statistics last={device.last} />
      <ResultLine said={act.said} />
      <div className="acts">
        <button className="btn line" type="button" onClick={test}>
          <Icon name="bell" small />
          Send a test
        </button>
        <button className="btn quiet" type="button" onClick={remove}>
          Remove the device
        </button>
      </div>
      <Last device={device} where="it" />
    </Sheet>
  );
}
