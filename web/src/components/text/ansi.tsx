/** Output of a command. What colours it is loaded with the first output that has colours. */
import { memo, Suspense } from "react";
import { lazyComponent } from "../../lazy-component.tsx";
import { removeSequences } from "./escape-sequences.ts";

/** Coloured up to this length, plain above: a span per colour change costs layout. */
const COLOUR_LIMIT = 200_000;

const Plain = ({ text }: { text: string }) => removeSequences(text);
const Coloured = lazyComponent(async () => (await import("./ansi-colours.tsx")).Coloured, Plain);

/** A carriage return begins the line again: only what was written last is shown. */
function collapseRedrawnLines(text: string): string {
  return text
    .split("\n")
    .map((line) => line.replace(/\r+$/, "").split("\r").at(-1) ?? "")
    .join("\n");
}

export const Ansi = memo(function Ansi({ text }: { text: string }) {
  const shown = collapseRedrawnLines(text);
  const plain = <Plain text={shown} />;
  if (shown.length > COLOUR_LIMIT || !shown.includes("\u001b")) return plain;
  return (
    <Suspense fallback={plain}>
      <Coloured text={shown} />
    </Suspense>
  );
});
