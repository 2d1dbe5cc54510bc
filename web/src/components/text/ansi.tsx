/** Output of a command. What colours it is loaded with the first output that has colours. */
import { lazy, memo, Suspense } from "react";

/** Coloured up to this length, plain above: a span per colour change costs layout. */
const COLOUR_LIMIT = 200_000;

export const SEQUENCE = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|.)/g;

const Coloured = lazy(async () => ({ default: (await import("./ansi-colours.tsx")).Coloured }));

/** A carriage return begins the line again: only what was written last is shown. */
function collapseRedrawnLines(text: string): string {
  return text
    .split("\n")
    .map((line) => line.replace(/\r+$/, "").split("\r").at(-1) ?? "")
    .join("\n");
}

export const Ansi = memo(function Ansi({ text }: { text: string }) {
  const shown = collapseRedrawnLines(text);
  const plain = <>{shown.replaceAll(SEQUENCE, "")}</>;
  if (shown.length > COLOUR_LIMIT || !shown.includes("\u001b")) return plain;
  return (
    <Suspense fallback={plain}>
      <Coloured text={shown} />
    </Suspense>
  );
});
