/** What a row of the conversation opens to: the output of a tool, the log of a step. */
import { useState } from "react";
import { Ansi } from "../../components/text/ansi.tsx";
import { saveBlob } from "../../lib/device/saving.ts";
import { formatBytes, formatDuration } from "../../lib/format.ts";
import type { Block, Step } from "../../lib/log/block.ts";

/** The fold bounds it. */
export function StepLog({ step }: { step: Step }) {
  return (
    <pre className="out" tabIndex={0} role="region" aria-label={`Log of ${step.name}`}>
      <Ansi text={step.log} />
    </pre>
  );
}

/** Shown at once; the rest on request, because a long text costs layout. */
const SHOWN = 20_000;

export function ToolDetail({ block }: { block: Extract<Block, { kind: "tool" }> }) {
  const [isWhole, setWhole] = useState(false);
  const [isWrapped, setWrapped] = useState(false);
  const { result } = block;
  const output = result === null || result === "lost" ? block.live : result.output;
  const text = isWhole ? output : output.slice(0, SHOWN);
  const input =
    typeof block.input["command"] === "string" ? `$ ${block.input["command"]}` : JSON.stringify(block.input, null, 2);
  return (
    <>
      <pre
        className={isWrapped ? "out wrap" : "out"}
        tabIndex={0}
        role="region"
        aria-label={`Input and output of ${block.name}`}
      >
        <span className="d">{input}</span>
        {"\n"}
        <Ansi text={text} />
      </pre>
      <div className="outfoot">
        {result !== null && result !== "lost" && (
          <>
            {result.exitCode !== null && <span>exit {result.exitCode}</span>}
            <span>{formatDuration(result.ms)}</span>
            <span>{formatBytes(output.length)}</span>
            {result.truncated && <span>shortened by the worker</span>}
          </>
        )}
        {output.length > SHOWN && !isWhole && (
          <button className="link" type="button" onClick={() => setWhole(true)}>
            Whole output
          </button>
        )}
        <button className="link" type="button" aria-pressed={isWrapped} onClick={() => setWrapped(!isWrapped)}>
          Wrap lines
        </button>
        {output !== "" && (
          <button
            className="link"
            type="button"
            onClick={() => saveBlob(`${block.name}-${block.key}.txt`, new Blob([output], { type: "text/plain" }))}
          >
            Save
          </button>
        )}
      </div>
    </>
  );
}
