/** What a row of the conversation opens to: the output of a tool, the log of a step. */
import { useEffect, useLayoutEffect, useRef, useState, type RefObject, type UIEvent } from "react";
import { Ansi } from "../../components/text/ansi.tsx";
import { findText, markHits, MOST_HITS, showHit } from "../../components/text/find-text.ts";
import { SearchField } from "../../components/text/search-field.tsx";
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

type Tool = Extract<Block, { kind: "tool" }>;

export function ToolDetail({ block }: { block: Tool }) {
  const [isWhole, setWhole] = useState(false);
  const [isWrapped, setWrapped] = useState(false);
  const [isSearched, setSearched] = useState(false);
  const box = useRef<HTMLPreElement>(null);
  const { result } = block;
  const output = result === null || result === "lost" ? block.live : result.output;
  // A search is of all that is there.
  const text = isWhole || isSearched ? output : output.slice(0, SHOWN);
  const noteScroll = useEnd(box, text, result === null && !isSearched);
  const input =
    typeof block.input["command"] === "string" ? `$ ${block.input["command"]}` : JSON.stringify(block.input, null, 2);
  return (
    <>
      {isSearched && <Search box={box} />}
      <pre
        ref={box}
        className={isWrapped ? "out wrap" : "out"}
        tabIndex={0}
        role="region"
        aria-label={`Input and output of ${block.name}`}
        onScroll={noteScroll}
      >
        <span className="d">{input}</span>
        {"\n"}
        <Ansi text={text} />
      </pre>
      <div className="outfoot">
        <Facts result={result} bytes={output.length} />
        {output.length > SHOWN && !isWhole && !isSearched && (
          <button className="link" type="button" onClick={() => setWhole(true)}>
            Whole output
          </button>
        )}
        <button className="link" type="button" aria-pressed={isSearched} onClick={() => setSearched(!isSearched)}>
          Search in it
        </button>
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

/** A box is at its end also where the last line is cut by a pixel or two. */
const NEAR_PX = 8;

/** Follows the end of a box until a person scrolls up; at the end it follows again. */
function useEnd(box: RefObject<HTMLElement | null>, text: string, isFollowed: boolean): (event: UIEvent) => void {
  const isAtEnd = useRef(true);
  useLayoutEffect(() => {
    const { current } = box;
    if (current !== null && isFollowed && isAtEnd.current) current.scrollTop = current.scrollHeight;
  }, [box, text, isFollowed]);
  return ({ currentTarget: { scrollTop, clientHeight, scrollHeight } }) => {
    isAtEnd.current = scrollTop + clientHeight >= scrollHeight - NEAR_PX;
  };
}

function Facts({ result, bytes }: { result: Tool["result"]; bytes: number }) {
  if (result === null || result === "lost") return null;
  return (
    <>
      {result.exitCode !== null && <span>exit {result.exitCode}</span>}
      <span>{formatDuration(result.ms)}</span>
      <span>{formatBytes(bytes)}</span>
      {result.truncated && <span>shortened by the worker</span>}
    </>
  );
}

function Search({ box }: { box: RefObject<HTMLElement | null> }) {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const [hits, setHits] = useState<readonly Range[]>([]);
  useEffect(() => {
    const { current } = box;
    if (current === null) return undefined;
    const find = (): void => setHits(findText(current, query));
    find();
    // More output came, or its colours: a hit is a place in what is drawn.
    const changes = new MutationObserver(find);
    changes.observe(current, { childList: true, characterData: true, subtree: true });
    return () => changes.disconnect();
  }, [box, query]);
  const counted = hits.slice(0, MOST_HITS);
  const shown = Math.min(at, counted.length - 1);
  const wanted = `${shown} ${query}`;
  const gone = useRef("");
  useEffect(() => {
    const hit = hits[shown];
    if (hit === undefined) return undefined;
    // Once: who reads on while more comes in is not taken back.
    if (box.current !== null && gone.current !== wanted) showHit(hit, box.current);
    gone.current = wanted;
    return markHits(hits, shown);
  }, [hits, shown, wanted, box]);
  return (
    <SearchField
      label="Search in the output"
      query={query}
      count={counted.length}
      isMore={hits.length > MOST_HITS}
      at={shown}
      onQuery={(next) => {
        setQuery(next);
        setAt(0);
      }}
      onStep={(step) => setAt((shown + step + counted.length) % Math.max(1, counted.length))}
    />
  );
}
