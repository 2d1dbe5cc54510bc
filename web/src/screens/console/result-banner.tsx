/** What an act of an operator came to, until it is dismissed or the next one begins. */
import { useState } from "react";
import type { Act, ActResult } from "../../components/act.tsx";
import { Icon } from "../../components/icon.tsx";

/** @param name for screen readers. */
export function ResultBanner({ act: { said, isBusy }, name }: { act: Act; name: string }) {
  const [dismissed, setDismissed] = useState<ActResult | null>(null);
  if (said === dismissed && !isBusy) return null;
  const isBad = said?.isBad === true;
  const [appearance, icon] = isBusy ? ["queued", "clock"] : isBad ? ["failed", "warn"] : ["done", "check"];
  return (
    <p className={`banner st-${appearance}`} role={isBad ? "alert" : "status"} aria-label={name}>
      <Icon name={icon} />
      <span className="grow">{said?.text ?? "Working…"}</span>
      {!isBusy && (
        <button className="iconbtn" type="button" aria-label="Dismiss" onClick={() => setDismissed(said)}>
          <Icon name="close" small />
        </button>
      )}
    </p>
  );
}
