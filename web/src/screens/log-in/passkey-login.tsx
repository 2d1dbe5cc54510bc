/** Log-in with a passkey: by its button, or from the suggestions of the e-mail field. */
import { useEffect, useEffectEvent, useState } from "react";
import { loadPasskeys, PasskeyButton } from "./passkey-button.tsx";

export function PasskeyLogin({ onEnter }: { onEnter: () => Promise<void> }) {
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const accepted = useEffectEvent(onEnter);
  // The button's own ceremony ends this one; after it the suggestions are offered again.
  useEffect(() => {
    if (isBusy) return undefined;
    const stop = new AbortController();
    void loadPasskeys().then(async ({ offerPasskeys, passkeyProblem }) => {
      try {
        if (await offerPasskeys(stop.signal)) await accepted();
      } catch (thrown) {
        if (!stop.signal.aborted) setProblem(passkeyProblem(thrown));
      }
    });
    return () => stop.abort();
  }, [isBusy]);
  const press = (isPressed: boolean): void => {
    setBusy(isPressed);
    if (isPressed) setProblem(null);
  };
  return (
    <>
      <PasskeyButton isBusy={isBusy} onBusy={press} onEnter={onEnter} />
      {problem !== null && (
        <p className="hint bad" role="alert">
          {problem}
        </p>
      )}
    </>
  );
}
