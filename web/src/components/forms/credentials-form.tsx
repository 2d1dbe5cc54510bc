/** The fields of the log-in and of the first account. */
import type { ReactNode } from "react";
import { useAct } from "../act.tsx";

interface CredentialsFormProps {
  readonly label: string;
  readonly isNew: boolean;
  readonly action: (email: string, password: string) => Promise<void>;
  readonly children?: ReactNode;
}

export function CredentialsForm({ label, isNew, action, children }: CredentialsFormProps) {
  const { run, said, isBusy } = useAct();
  return (
    <form
      aria-label={label}
      onSubmit={(event) => {
        event.preventDefault();
        const fields = new FormData(event.currentTarget);
        void run(() => action(String(fields.get("email")), String(fields.get("password"))));
      }}
    >
      <div className="field">
        <label className="label" htmlFor="email">
          E-mail
        </label>
        <input
          className="input"
          id="email"
          name="email"
          type="email"
          autoComplete={isNew ? "username" : "username webauthn"}
          inputMode="email"
          required
          maxLength={254}
        />
      </div>
      <div className="field">
        <label className="label" htmlFor="password">
          Password
        </label>
        <input
          className="input"
          id="password"
          name="password"
          type="password"
          autoComplete={isNew ? "new-password" : "current-password"}
          required
          minLength={isNew ? 10 : 1}
          maxLength={1024}
          aria-invalid={said !== null}
          aria-describedby="password-hint"
        />
        <p
          className={said === null ? "hint" : "hint bad"}
          id="password-hint"
          role={said === null ? undefined : "alert"}
        >
          {said?.text ?? (isNew ? "At least 10 characters." : "")}
        </p>
      </div>
      <div className="field">
        <button className="btn primary wide" type="submit" disabled={isBusy}>
          {label}
        </button>
      </div>
      {children}
    </form>
  );
}
