/** Offers notifications once, after the first task that was sent from here. */
import { useState } from "react";
import { getPushSupport, HOME_SCREEN_HINT, isWorthAsking, noteAsked } from "../../lib/device/push-support.ts";
import { turnOn } from "../../lib/device/push.ts";
import { ResultLine, useAct } from "../act.tsx";
import { Icon } from "../icon.tsx";

export function PushOffer() {
  const [isOpen, setOpen] = useState(isWorthAsking);
  const { run, said } = useAct();
  const canTurnOn = getPushSupport() === "off";
  if (!isOpen) return null;
  const accept = async (): Promise<void> => {
    await turnOn();
    setOpen(false);
  };
  const decline = (): void => {
    noteAsked();
    setOpen(false);
  };
  return (
    <section className="card" aria-labelledby="push-offer">
      <div className="card-head">
        <Icon name="bell" />
        <div className="grow">
          <h2 id="push-offer">Hear when it is your move?</h2>
          <p className="note">
            {canTurnOn
              ? "A question, a budget or the end. You can lock the phone; the task goes on."
              : HOME_SCREEN_HINT}
          </p>
        </div>
      </div>
      <ResultLine said={said} />
      <div className="acts">
        {canTurnOn && (
          <button className="btn primary" type="button" onClick={() => void run(accept)}>
            Turn on notifications
          </button>
        )}
        <button className="btn quiet" type="button" onClick={decline}>
          {canTurnOn ? "Not now" : "Understood"}
        </button>
      </div>
    </section>
  );
}
