import { navigate, useAddress } from "../../navigation/history.tsx";
import { ResultLine, useAct } from "../../components/act.tsx";
import { CredentialsForm } from "../../components/forms/credentials-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { formatClock } from "../../lib/format.ts";
import { describeLoginProblem, useHasPasskeys, useProviders } from "./login-problems.ts";
import { PasskeyLogin } from "./passkey-login.tsx";
import { leaveForProvider, logIn, session } from "../../lib/session.ts";
import { useStore } from "../../lib/store.ts";

/** An address of the app; what leads elsewhere is not followed. */
function readNext(search: string): string {
  const next = new URLSearchParams(search).get("next") ?? "/";
  return /^\/(?![/\\])/.test(next) ? next : "/";
}

export function LoginScreen() {
  const { search } = useAddress();
  const next = readNext(search);
  const providers = useProviders();
  const hasPasskeys = useHasPasskeys();
  const refusal = describeLoginProblem(search);
  const state = useStore(session);
  const enter = (): Promise<void> => navigate(next, { replace: true });
  const endedAt = state.kind === "none" ? state.endedAt : null;
  return (
    <main className="login" id="main">
      <img className="mark" src="/icons/icon.svg" alt="" width="48" height="48" />
      <div>
        <h1>Log in to Slipway</h1>
        <p className="muted">{location.host}</p>
      </div>
      {endedAt !== null && (
        <div className="banner st-awaiting">
          <Icon name="info" />
          <span className="grow">
            <b>Your session ended at {formatClock(endedAt)}.</b> Drafts are kept on this device.
          </span>
        </div>
      )}
      {state.kind === "none" && state.isDeleted && (
        <p className="banner st-done" role="status">
          <Icon name="check" />
          <span className="grow">
            <b>Your account is deleted.</b> Your tasks and files are removed within minutes, and this device keeps
            nothing of them.
          </span>
        </p>
      )}
      {refusal !== null && (
        <p className="banner st-failed" role="alert">
          {refusal}
        </p>
      )}
      {hasPasskeys && <PasskeyLogin onEnter={enter} />}
      {providers.map(({ id, name, startUrl }) => (
        <ProviderLink key={id} name={name} href={`${startUrl}?next=${encodeURIComponent(next)}`} />
      ))}
      <CredentialsForm
        label="Log in"
        isNew={false}
        action={async (email, password) => {
          await logIn(email, password);
          await enter();
        }}
      />
      <p className="note">First time here? Use the one-time link that the server printed when it started.</p>
    </main>
  );
}

function ProviderLink({ name, href }: { name: string; href: string }) {
  const { run, said } = useAct();
  return (
    <>
      <a
        className="btn line wide"
        href={href}
        onClick={(event) => {
          event.preventDefault();
          void run(() => leaveForProvider(href));
        }}
      >
        <Icon name="key" />
        Log in with {name}
      </a>
      <ResultLine said={said} />
    </>
  );
}
