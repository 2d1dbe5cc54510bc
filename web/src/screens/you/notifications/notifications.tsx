/** Notifications of this device and of the others: what was shown, how fast, and a test. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { WireNotification, WirePush, WirePushDevice } from "../../../../../src/core/protocol/push.ts";
import { useAct } from "../../../components/act.tsx";
import { Bar } from "../../../components/bar.tsx";
import { Icon } from "../../../components/icon.tsx";
import { PageHead } from "../../../components/page-head.tsx";
import { client, problemText } from "../../../lib/client.ts";
import { getPushSupport, HOME_SCREEN_HINT, type PushSupport } from "../../../lib/device/push-support.ts";
import { isThisDevice, refreshPush, setKinds, turnOff, turnOn } from "../../../lib/device/push.ts";
import { delayOf, DeviceSheet, Last, Statistics, type Run } from "./device-history.tsx";
import { TopicsAndWebhooks } from "./topics-and-webhooks.tsx";

type Kind = WireNotification["kind"];

const POLL_MS = 3_000;
const SWITCHES: readonly (readonly [name: string, hint: string, kinds: readonly Kind[]])[] = [
  ["Needs me", "questions and budgets", ["needs_you", "budget"]],
  ["Done", "with the summary", ["done"]],
  ["Failed", "with the reason", ["failed"]],
];

export function Notifications() {
  const queries = useQueryClient();
  const [support, setSupport] = useState(getPushSupport);
  const [tested, setTested] = useState<WirePushDevice | null>(null);
  const act = useAct();
  const query = useQuery({
    queryKey: ["push"],
    queryFn: ({ signal }) => client.push.status({ signal }),
    refetchInterval: POLL_MS,
  });
  const run: Run = (work, device) => {
    setTested(device ?? null);
    const refresh = (): Promise<void> => {
      setSupport(getPushSupport());
      return queries.invalidateQueries({ queryKey: ["push"] });
    };
    void act.run(work, { after: refresh });
  };
  const devices = query.data?.devices ?? [];
  const others = devices.filter((device) => device.via === "web_push" && !isThisDevice(device));
  const own = devices.find(isThisDevice);
  const topics = devices.filter(({ via }) => via !== "web_push");
  const gone = query.data === undefined ? null : describeGone(tested, devices);
  const problem = act.said?.text ?? (query.error === null ? gone : problemText(query.error));
  return (
    <div className="app has-side">
      <Bar />
      <main className="page" id="main">
        <PageHead title="Notifications" back="/you" />
        <div className="stack">
          {problem !== null && (
            <p className="banner st-failed" role="alert">
              {problem}
            </p>
          )}
          {query.data !== undefined && own !== undefined && support === "on" ? (
            <ThisDevice status={query.data} device={own} run={run} />
          ) : (
            <Off support={support} status={query.data} run={run} />
          )}
          {others.length > 0 && <OtherDevices devices={others} run={run} />}
          {query.data !== undefined && <TopicsAndWebhooks devices={topics} isBusy={act.isBusy} run={run} />}
          {own !== undefined && <Last device={own} where="this device" />}
        </div>
      </main>
    </div>
  );
}

/** Where the answer to a test is that the receiver is gone, the device goes with its row. */
function describeGone(tested: WirePushDevice | null, devices: readonly WirePushDevice[]): string | null {
  if (tested === null || devices.some(({ id }) => id === tested.id)) return null;
  return `${tested.label} is gone: its service says that it does not exist any more, or somebody removed it.`;
}

const OFF: Readonly<Record<PushSupport, string>> = {
  on: "Its push service forgot this device. Connect it again to hear from your tasks.",
  off: "Slipway can tell this device when it is your move, or when a task ends.",
  denied: "This browser blocks notifications of this site. Allow them in its settings, then come back.",
  "home-screen": HOME_SCREEN_HINT,
  none: "This browser cannot be told anything here. Use https and a browser with Web Push.",
};

function Off({ support, status, run }: { support: PushSupport; status: WirePush | undefined; run: Run }) {
  return (
    <section className="card" aria-labelledby="this-device">
      <div className="card-head">
        <Icon name="phone" />
        <div className="grow">
          <h2 id="this-device">This device</h2>
          <p className="note">{OFF[support]}</p>
        </div>
      </div>
      {support === "off" && (
        <button className="btn primary wide" type="button" onClick={() => run(() => turnOn())}>
          Turn on notifications
        </button>
      )}
      {support === "on" && status !== undefined && (
        <button className="btn primary wide" type="button" onClick={() => run(() => refreshPush(status))}>
          Connect again
        </button>
      )}
    </section>
  );
}

interface DeviceProps {
  readonly status: WirePush;
  readonly device: WirePushDevice;
  readonly run: Run;
}

function ThisDevice({ status, device, run }: DeviceProps) {
  const { kinds } = device;
  const toggle = (some: readonly Kind[], isOn: boolean) => () =>
    run(() => setKinds(status, isOn ? kinds.filter((kind) => !some.includes(kind)) : [...kinds, ...some]));
  return (
    <>
      <section className="card" aria-labelledby="this-device">
        <div className="card-head">
          <Icon name="phone" />
          <div className="grow">
            <h2 id="this-device">This device</h2>
            <p className="note">{device.label}</p>
          </div>
        </div>
        <Statistics last={device.last} />
        <div className="acts">
          <button className="btn line" type="button" onClick={() => run(() => client.push.test(device.id), device)}>
            <Icon name="bell" small />
            Send a test
          </button>
          <button className="btn quiet" type="button" onClick={() => run(turnOff)}>
            Turn off here
          </button>
        </div>
      </section>
      <section className="card" aria-label="What for">
        {SWITCHES.map(([name, hint, some]) => {
          const isOn = some.every((kind) => kinds.includes(kind));
          return (
            <label key={name} className="switch">
              <span className="grow">
                {name}
                <small>{hint}</small>
              </span>
              <input type="checkbox" role="switch" checked={isOn} onChange={toggle(some, isOn)} />
            </label>
          );
        })}
      </section>
    </>
  );
}

function OtherDevices({ devices, run }: { devices: readonly WirePushDevice[]; run: Run }) {
  const [opened, setOpened] = useState<string | null>(null);
  const device = devices.find(({ id }) => id === opened);
  return (
    <section aria-labelledby="other-devices">
      <h2 className="over" id="other-devices">
        When this device stays silent for 30 s
      </h2>
      <ul className="rows set">
        {devices.map((device) => (
          <li key={device.id}>
            <Icon name="laptop" />
            <span>
              <b>{device.label}</b>
              <small>
                {device.last.flatMap(delayOf).length} of {device.last.length} shown, by {device.service}
              </small>
            </span>
            <button
              className="btn line"
              type="button"
              aria-label={`Look at ${device.label}`}
              onClick={() => setOpened(device.id)}
            >
              Look
            </button>
          </li>
        ))}
      </ul>
      {device !== undefined && <DeviceSheet device={device} run={run} onClose={() => setOpened(null)} />}
    </section>
  );
}
