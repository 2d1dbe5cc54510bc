/** Log-in with a passkey: by its button, or from the suggestions of the e-mail field. */
import { useEffect, useEffectEvent, useState } from "react";
import { Icon } from "../../components/icon.tsx";

const load = () => import("../../lib/device/passkeys.ts");

export function PasskeyLogin({ onEnter }: { onEnter: () => Promise<void> }) {
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const accepted = useEffectEvent(onEnter);
  // The button's own ceremony ends this one; after it the suggestions are offered again.
  useEffect(() => {
    if (isBusy) return undefined;
    const stop = new AbortController();
    void load().then(async ({ offerPasskeys, passkeyProblem }) => {
      try {
        if (await offerPasskeys(stop.signal)) await accepted();
      } catch (thrown) {
        if (!stop.signal.aborted) setProblem(passkeyProblem(thrown));
      }
    });
    return () => stop.abort();
  }, [isBusy]);
  const enter = async (): Promise<void> => {
    setBusy(true);
    setProblem(null);
    const { enterWithPasskey, passkeyProblem } = await load();
    try {
      await enterWithPasskey();
      await onEnter();
    } catch (thrown) {
      setProblem(passkeyProblem(thrown));
      setBusy(false);
    }
  };
  return (
    <>
      <button className="btn line wide" type="button" disabled={isBusy} onClick={() => void enter()}>
        <Icon name="key" />
        Use a passkey
      </button>
      {problem !== null && (
        <p className="hint bad" role="alert">
          {problem}
        </p>
      )}
    </>
  );
}
