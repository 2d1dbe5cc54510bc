/** A form of text fields that shows why it was refused, and is empty again when it was taken. */
import { useState, type ReactNode } from "react";
import { ResultLine, useAct } from "../act.tsx";
import { TextField } from "./fields.tsx";

interface SimpleFormProps {
  readonly fields: readonly string[];
  readonly optional?: readonly string[];
  readonly placeholders?: Readonly<Record<string, string>>;
  readonly action: string;
  readonly onSubmit: (values: Readonly<Record<string, string>>) => Promise<void>;
  /** Above the button. */
  readonly children?: ReactNode;
}

const SECRETS = new Set(["Password", "Current password", "New password", "Token", "Secret value"]);

export function SimpleForm({ fields, optional = [], placeholders = {}, action, onSubmit, children }: SimpleFormProps) {
  const [values, setValues] = useState<Readonly<Record<string, string>>>({});
  const { run, said, isBusy } = useAct();
  const isComplete = fields.every((name) => optional.includes(name) || (values[name] ?? "").trim() !== "");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void run(() => onSubmit(values)).then((isDone) => {
          // What was typed meanwhile is another one.
          if (isDone) setValues((present) => (present === values ? {} : present));
        });
      }}
    >
      {fields.map((name) => (
        <TextField
          key={name}
          label={name}
          placeholder={placeholders[name]}
          isOptional={optional.includes(name)}
          type={SECRETS.has(name) ? "password" : "text"}
          value={values[name] ?? ""}
          onChange={(value) => setValues({ ...values, [name]: value })}
        />
      ))}
      <ResultLine said={said} />
      {children}
      <div className="acts">
        <button className="btn primary" type="submit" disabled={!isComplete || isBusy}>
          {action}
        </button>
      </div>
    </form>
  );
}
