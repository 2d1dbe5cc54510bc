/** The button that asks for a passkey and logs in with it. */
import { useState } from "react";
import { Icon } from "../../components/icon.tsx";

/** The ceremonies are loaded when one begins. */
export const loadPasskeys = () => import("../../lib/device/passkeys.ts");

interface PasskeyButtonProps {
  readonly isBusy: boolean;
  /** True from the press on; false again when no passkey was accepted. */
  readonly onBusy: (isBusy: boolean) => void;
  readonly onEnter: () => Promise<void>;
}

export function PasskeyButton({ isBusy, onBusy, onEnter }: PasskeyButtonProps) {
  const [problem, setProblem] = useState<string | null>(null);
  const enter = async (): Promise<void> => {
    onBusy(true);
    setProblem(null);
    const { enterWithPasskey, passkeyProblem } = await loadPasskeys();
    try {
      await enterWithPasskey();
      await onEnter();
    } catch (thrown) {
      setProblem(passkeyProblem(thrown));
      onBusy(false);
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
