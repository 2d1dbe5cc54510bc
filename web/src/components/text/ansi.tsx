/** Output of a command with its ANSI colours as classes. */
import Anser from "anser";
import { memo } from "react";

/** Coloured up to this length, plain above: a span per colour change costs layout. */
const COLOUR_LIMIT = 200_000;

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

const SEQUENCE = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|.)/g;

/** A carriage return begins the line again: only what was written last is shown. */
function collapseRedrawnLines(text: string): string {
  return text
    .split("\n")
    .map((line) => line.replace(/\r+$/, "").split("\r").at(-1) ?? "")
    .join("\n");
}

export const Ansi = memo(function Ansi({ text }: { text: string }) {
  const shown = collapseRedrawnLines(text);
  if (shown.length > COLOUR_LIMIT || !shown.includes("\u001b")) return <>{shown.replaceAll(SEQUENCE, "")}</>;
  return (
    <>
      {Anser.ansiToJson(shown, { use_classes: true, remove_empty: true }).map((part, i) => {
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
            {part.content.replaceAll(SEQUENCE, "")}
          </span>
        );
      })}
    </>
  );
});
