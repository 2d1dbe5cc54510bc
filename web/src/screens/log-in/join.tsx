/** A one-time link: a new account, or a new password. The token is in the fragment. */
import { useQuery } from "@tanstack/react-query";
import { navigate } from "../../navigation/history.tsx";
import { useState } from "react";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { client, problemText } from "../../lib/client.ts";
import { acceptLink } from "../../lib/session.ts";

export function JoinScreen() {
  const [token] = useState(() => location.hash.slice(1));
  const link = useQuery({
    queryKey: ["link", token],
    queryFn: ({ signal }) => client.people.lookAtLink(token, { signal }),
  });
  const isInvitation = link.data?.kind === "invitation";
  const email = link.data?.email ?? null;
  return (
    <main className="login" id="main">
      <img className="mark" src="/icons/icon.svg" alt="" width="48" height="48" />
      <div>
        <h1>{isInvitation ? "Welcome to Slipway" : "Choose a new password"}</h1>
        <p className="muted">{email ?? location.host}</p>
      </div>
      {link.error !== null && (
        <p className="banner st-failed" role="alert">
          {problemText(link.error)}
        </p>
      )}
      {link.data !== undefined && (
        <SimpleForm
          fields={isInvitation && email === null ? ["E-mail", "Password"] : ["Password"]}
          action={isInvitation ? "Create account" : "Set password"}
          onSubmit={async ({ "E-mail": chosen, Password: password = "" }) => {
            await acceptLink(token, chosen, password);
            await navigate("/", { replace: true });
          }}
        />
      )}
      <p className="note">At least 10 characters; several words are best.</p>
    </main>
  );
}
