/**
 * Logs this device in by a link that another browser shows (You, Log in on your phone). Opening it
 * does nothing: the person confirms here, then approves there. The token is in the fragment.
 */
import { isTransient, SlipwayProblem } from "../../../../src/client/problem.ts";
import { navigateFromHere } from "../../navigation/history.tsx";
import { useEffect, useState } from "react";
import { problemText } from "../../lib/client.ts";
import { enter, post, type Grant } from "../../lib/session.ts";

interface Asked {
  readonly deviceCode: string;
  readonly userCode: string;
  readonly interval: number;
}

type Polled =
  | { readonly state: "pending"; readonly interval: number }
  | { readonly state: "done"; readonly session: Grant };

/** The server repeats an answer that was lost for half a minute, ms. */
const POLL_MS = 10_000;

/** @returns null when the person is logged in, else after how many seconds to ask again. */
async function poll({ deviceCode, interval }: Asked): Promise<number | null> {
  let wait = interval;
  try {
    const read = (polled: Polled): Grant | null => {
      if (polled.state === "done") return polled.session;
      wait = polled.interval;
      return null;
    };
    const isDone = await enter("/v1/session/device", { deviceCode }, read, { timeoutMs: POLL_MS });
    return isDone ? null : wait;
  } catch (thrown) {
    if (thrown instanceof SlipwayProblem && isTransient(thrown)) return wait;
    throw thrown;
  }
}

export function PairScreen() {
  const [token] = useState(() => location.hash.slice(1));
  const [asked, setAsked] = useState<Asked | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    if (asked === null) return undefined;
    let timer: ReturnType<typeof setTimeout>;
    const goOn = navigateFromHere();
    const ask = async (): Promise<void> => {
      try {
        const wait = await poll(asked);
        if (wait === null) await goOn("/", { replace: true });
        else timer = setTimeout(() => void ask(), wait * 1_000);
      } catch (thrown) {
        setAsked(null);
        setProblem(problemText(thrown));
      }
    };
    timer = setTimeout(() => void ask(), asked.interval * 1_000);
    return () => clearTimeout(timer);
  }, [asked]);
  const confirm = (): void => {
    setProblem(null);
    post<Asked>("/v1/device/claim", { token }).then(setAsked, (thrown: unknown) => setProblem(problemText(thrown)));
  };
  return (
    <main className="login" id="main">
      <img className="mark" src="/icons/icon.svg" alt="" width="48" height="48" />
      <div>
        <h1>Log in this device</h1>
        <p className="muted">{location.host}</p>
      </div>
      {problem !== null && (
        <p className="banner st-failed" role="alert">
          {problem}
        </p>
      )}
      {asked === null ? (
        <>
          <p className="read">Continue only when you opened the code yourself, in a browser where you are logged in.</p>
          <button className="btn primary wide" type="button" onClick={confirm}>
            Log in on this device
          </button>
        </>
      ) : (
        <p className="read" role="status">
          Approve it in the other browser. It must show the code <code>{asked.userCode}</code>.
        </p>
      )}
    </main>
  );
}
