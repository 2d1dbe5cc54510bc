/** Approves the log-in of a program that shows a code, such as `slipway login`. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { client, problemText } from "../../lib/client.ts";
import { formatAge } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";

export function DeviceScreen() {
  const [code, setCode] = useState(() => location.hash.slice(1));
  const [ended, setEnded] = useState<string | null>(null);
  return (
    <main className="login" id="main">
      <img className="mark" src="/icons/icon.svg" alt="" width="48" height="48" />
      <div>
        <h1>Log in a program</h1>
        <p className="muted">{location.host}</p>
      </div>
      {ended !== null && (
        <p className="banner" role="status">
          {ended}
        </p>
      )}
      {ended === null && code === "" && (
        <SimpleForm
          fields={["Code"]}
          action="Continue"
          onSubmit={async ({ Code: typed = "" }) => {
            await client.people.lookAtDevice(typed);
            setCode(typed);
          }}
        />
      )}
      {ended === null && code !== "" && <Decision code={code} onEnd={setEnded} />}
      <p className="note">Approve only what you started yourself, just now.</p>
    </main>
  );
}

function Decision({ code, onEnd }: { readonly code: string; readonly onEnd: (text: string) => void }) {
  const found = useQuery({
    queryKey: ["device", code],
    queryFn: ({ signal }) => client.people.lookAtDevice(code, { signal }),
    retry: false,
  });
  const [problem, setProblem] = useState<string | null>(null);
  const decide = (allow: boolean): void => {
    client.people.decideDevice(code, allow).then(
      () => onEnd(allow ? "Approved. The program is logged in within seconds." : "Refused. Nothing was logged in."),
      (error: unknown) => setProblem(problemText(error)),
    );
  };
  const failure = found.error === null ? problem : problemText(found.error);
  return (
    <>
      {failure !== null && (
        <p className="banner st-failed" role="alert">
          {failure}
        </p>
      )}
      {found.data !== undefined && (
        <>
          <p>
            <b>{found.data.device === "" ? "A program" : found.data.device}</b> at {found.data.address} asks to act as
            you. It began {formatAge(Date.parse(found.data.startedAt), serverNow())} ago and shows the code{" "}
            <code>{code}</code>.
          </p>
          <button className="btn primary wide" type="button" onClick={() => decide(true)}>
            Approve
          </button>
          <button className="btn line wide" type="button" onClick={() => decide(false)}>
            Refuse
          </button>
        </>
      )}
    </>
  );
}
