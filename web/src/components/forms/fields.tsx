/** Labelled fields of forms. */
import { useId } from "react";
import { Icon } from "../icon.tsx";

interface TextFieldProps {
  readonly label: string;
  readonly value: string;
  readonly placeholder?: string | undefined;
  /** What it may be, offered while the person writes. */
  readonly suggestions?: readonly string[];
  readonly inputMode?: "decimal" | "numeric";
  readonly type?: string;
  readonly isOptional?: boolean;
  readonly onChange: (value: string) => void;
}

export function TextField(props: TextFieldProps) {
  const { label, value, placeholder, inputMode, type = "text", isOptional = false, onChange } = props;
  const { suggestions = [] } = props;
  const id = useId();
  return (
    <div className="field">
      <label className="label" htmlFor={id}>
        {label}
        {isOptional && <span className="opt"> optional</span>}
      </label>
      <input
        className="input"
        id={id}
        type={type}
        value={value}
        placeholder={placeholder}
        inputMode={inputMode}
        autoCapitalize="off"
        autoComplete="off"
        spellCheck={false}
        list={suggestions.length > 0 ? `${id} list` : undefined}
        onChange={(event) => onChange(event.target.value)}
      />
      {suggestions.length > 0 && (
        <datalist id={`${id} list`}>
          {suggestions.map((text) => (
            <option key={text} value={text} />
          ))}
        </datalist>
      )}
    </div>
  );
}

interface OptionsProps {
  readonly label: string;
  readonly value: string;
  readonly options: readonly string[];
  /** Texts that differ from the values. */
  readonly names?: Readonly<Record<string, string>>;
  readonly onChange: (value: string) => void;
}

export function SelectField({ label, value, options, names = {}, onChange }: OptionsProps) {
  const id = useId();
  return (
    <div className="field">
      <label className="label" htmlFor={id}>
        {label}
      </label>
      <span className="select">
        <select className="input" id={id} value={value} onChange={(event) => onChange(event.target.value)}>
          {options.map((option) => (
            <option key={option} value={option}>
              {names[option] ?? option}
            </option>
          ))}
        </select>
        <Icon name="chev-d" small />
      </span>
    </div>
  );
}

export function Choice({
  label,
  name,
  value,
  options,
  names = {},
  hint = "",
  onChange,
}: OptionsProps & { readonly name: string; readonly hint?: string }) {
  return (
    <fieldset className="field">
      <legend className="label">{label}</legend>
      <div className="seg">
        {options.map((option) => (
          <label key={option}>
            <input type="radio" name={name} checked={option === value} onChange={() => onChange(option)} />
            <span>{names[option] ?? option}</span>
          </label>
        ))}
      </div>
      {hint !== "" && <p className="hint">{hint}</p>}
    </fieldset>
  );
}
