/** Offers notifications once, after the first task that was sent from here. */
import { useState } from "react";
import { problemText } from "../../lib/client.ts";
import { isWorthAsking, noteAsked } from "../../lib/device/push-support.ts";
import { turnOn } from "../../lib/device/push.ts";
import { Icon } from "../icon.tsx";

export function PushOffer() {
  const [isOpen, setOpen] = useState(isWorthAsking);
  const [problem, setProblem] = useState<string | null>(null);
  if (!isOpen) return null;
  const accept = (): void => {
    turnOn().then(
      () => setOpen(false),
      (thrown: unknown) => setProblem(problemText(thrown)),
    );
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
          <p className="note">A question, a budget or the end. You can lock the phone; the task goes on.</p>
        </div>
      </div>
      {problem !== null && (
        <p className="hint bad" role="alert">
          {problem}
        </p>
      )}
      <div className="acts">
        <button className="btn primary" type="button" onClick={accept}>
          Turn on notifications
        </button>
        <button className="btn quiet" type="button" onClick={decline}>
          Not now
        </button>
      </div>
    </section>
  );
}
