/** The button that asks for a passkey and logs in with it. */
import { ResultLine, useAct } from "../../components/act.tsx";
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
  const { run, said } = useAct();
  const enter = async (): Promise<void> => {
    onBusy(true);
    const { enterWithPasskey, passkeyProblem } = await loadPasskeys();
    const hasEntered = await run(() => enterWithPasskey().then(onEnter), { problem: passkeyProblem });
    if (!hasEntered) onBusy(false);
  };
  return (
    <>
      <button className="btn line wide" type="button" disabled={isBusy} onClick={() => void enter()}>
        <Icon name="key" />
        Use a passkey
      </button>
      <ResultLine said={said} />
    </>
  );
}
