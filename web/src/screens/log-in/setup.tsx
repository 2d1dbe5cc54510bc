/** Creates the first admin. The one-time token is in the fragment, which browsers do not send. */
import { navigate } from "../../navigation/history.tsx";
import { useState } from "react";
import { CredentialsForm } from "../../components/forms/credentials-form.tsx";
import { setUp } from "../../lib/session.ts";

export function SetupScreen() {
  const [token] = useState(() => location.hash.slice(1));
  return (
    <main className="login" id="main">
      <img className="mark" src="/icons/icon.svg" alt="" width="48" height="48" />
      <div>
        <h1>Welcome to Slipway</h1>
        <p className="muted">Create the first account, which is the administrator.</p>
      </div>
      {token === "" ? (
        <p className="banner st-awaiting">Open the whole link that the server printed, with the part after #.</p>
      ) : (
        <CredentialsForm
          label="Create account"
          isNew
          action={async (email, password) => {
            await setUp(token, email, password);
            await navigate("/", { replace: true });
          }}
        />
      )}
    </main>
  );
}
