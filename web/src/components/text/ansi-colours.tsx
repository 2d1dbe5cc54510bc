/** ANSI colours as classes. */
import Anser from "anser";
import { removeSequences } from "./escape-sequences.ts";

const CLASSES: Readonly<Record<string, string>> = {
  "ansi-red": "a-red",
  "ansi-bright-red": "a-red",
  "ansi-green": "a-grn",
  "ansi-bright-green": "a-grn",
  "ansi-yellow": "a-yel",
  "ansi-bright-yellow": "a-yel",
  "ansi-blue": "a-blu",
  "ansi-bright-blue": "a-blu",
  "ansi-magenta": "a-mag",
  "ansi-bright-magenta": "a-mag",
  "ansi-cyan": "a-cyn",
  "ansi-bright-cyan": "a-cyn",
};

export function Coloured({ text }: { text: string }) {
  return (
    <>
      {Anser.ansiToJson(text, { use_classes: true, remove_empty: true }).map((part, i) => {
        const classes = [
          CLASSES[part.fg] ?? "",
          part.decoration === "bold" ? "a-b" : "",
          part.decoration === "dim" ? "a-dim" : "",
        ];
        return (
          <span
            key={`${i} ${part.content.length}`}
            className={classes.filter((name) => name !== "").join(" ") || undefined}
          >
            {removeSequences(part.content)}
          </span>
        );
      })}
    </>
  );
}
