/** Approves the log-in of a program that shows a code, such as `slipway login`. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "../../navigation/link.tsx";
import { useEffect, useState } from "react";
import { useAct } from "../../components/act.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { client, problemText } from "../../lib/client.ts";
import { formatAge } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";
import { usePerson } from "../../lib/session.ts";
import { Approval } from "./approval.tsx";

/** Of the link, which has the code in its fragment. */
const readCode = (): string => location.hash.slice(1);

export function DeviceScreen() {
  const [code, setCode] = useState(readCode);
  const [ended, setEnded] = useState<string | null>(null);
  useEffect(() => {
    // Another link in the same tab begins anew.
    const begin = (): void => {
      setCode(readCode());
      setEnded(null);
    };
    addEventListener("hashchange", begin);
    return () => removeEventListener("hashchange", begin);
  }, []);
  return (
    <main className="login" id="main">
      <img className="mark" src="/icons/icon.svg" alt="" width="48" height="48" />
      <div>
        <h1>Log in a program</h1>
        <p className="muted">{location.host}</p>
      </div>
      {ended === null ? <Decision key={code} code={code} setCode={setCode} onEnd={setEnded} /> : <End text={ended} />}
    </main>
  );
}

function End({ text }: { text: string }) {
  return (
    <>
      <p className="banner" role="status">
        <span className="grow">{text}</span>
      </p>
      <Link className="btn line wide" to="/">
        Inbox
      </Link>
    </>
  );
}

interface DecisionProps {
  readonly code: string;
  readonly setCode: (code: string) => void;
  readonly onEnd: (text: string) => void;
}

/** Asks for a code until a valid one is entered, then shows the device that requests the log-in. */
function Decision({ code, setCode, onEnd }: DecisionProps) {
  const person = usePerson();
  const found = useQuery({
    queryKey: ["device", code],
    queryFn: ({ signal }) => client.people.lookAtDevice(code, { signal }),
    enabled: code !== "",
  });
  const { run, said, isBusy } = useAct();
  const decide = async (allow: boolean): Promise<void> => {
    await client.people.decideDevice(code, allow);
    onEnd(allow ? "Approved. The program is logged in within seconds." : "Refused. Nothing was logged in.");
  };
  const failure = said?.text ?? (found.error === null ? null : problemText(found.error));
  return (
    <>
      {failure !== null && (
        <p className="banner st-failed" role="alert">
          <Icon name="warn" />
          <span className="grow">{failure}</span>
        </p>
      )}
      {(code === "" || found.error !== null) && (
        <div>
          <p className="note">The program shows a code of eight letters.</p>
          <SimpleForm
            fields={["Code"]}
            placeholders={{ Code: "ABCD-EFGH" }}
            action="Continue"
            onSubmit={({ Code: typed = "" }) => Promise.resolve(setCode(typed.trim().toUpperCase()))}
          />
        </div>
      )}
      {found.data !== undefined && (
        <>
          <p className="read">
            <b>{found.data.device === "" ? "A program" : found.data.device}</b> at {found.data.address} asks to act as{" "}
            <b>{person?.email ?? "you"}</b>. It began {formatAge(Date.parse(found.data.startedAt), serverNow())} ago and
            shows the code <code>{code}</code>.
          </p>
          <Approval
            isBusy={isBusy}
            onDecide={(allow) => void run(() => decide(allow))}
            note="Approve only what you started yourself, just now."
          />
        </>
      )}
    </>
  );
}
