/** The events around a moment as the wire has them, a search, and the whole log as a file. */
import { useMemo, useState } from "react";
import { Icon } from "../../../components/icon.tsx";
import { SearchField } from "../../../components/text/search-field.tsx";
import type { WireEvent } from "../../../../../src/core/protocol/events.ts";
import { saveBlob } from "../../../lib/device/saving.ts";
import { formatSecond } from "../../../lib/format.ts";

const SHOWN = 12;

interface RawLogProps {
  readonly name: string;
  readonly events: readonly WireEvent[];
  /** The seq of the moment. */
  readonly seq: number;
  /** Goes to the moment of a hit. */
  readonly onPick: (seq: number) => void;
}

export function RawLog({ name, events, seq, onPick }: RawLogProps) {
  const [query, setQuery] = useState("");
  const hits = useMemo(() => findEvents(events, query), [events, query]);
  const step = (by: -1 | 1): void => {
    const next = by === 1 ? hits.find((hit) => hit > seq) : hits.findLast((hit) => hit < seq);
    const hit = next ?? hits.at(by === 1 ? 0 : -1);
    if (hit !== undefined) onPick(hit);
  };
  const shown = events.filter((event) => event.seq <= seq && event.seq > seq - SHOWN).toReversed();
  const save = (): void => {
    const lines = events.map((event) => `${JSON.stringify(event)}\n`);
    saveBlob(`${name}.jsonl`, new Blob(lines, { type: "application/jsonl" }));
  };
  return (
    <section aria-labelledby="raw-title">
      <h2 className="over" id="raw-title">
        Raw log <span className="n">up to {seq}</span>
      </h2>
      <SearchField
        label="Search in the log"
        query={query}
        onQuery={setQuery}
        count={hits.length}
        at={hits.indexOf(seq)}
        onStep={step}
      />
      <div className="tools">
        {shown.map((event) => (
          <details key={event.seq} className="tool">
            <summary>
              <span className="num">{event.seq}</span>
              <b>{event.type}</b>
              <span className="arg">{event.to}</span>
              <span className="end">{formatSecond(Date.parse(event.at))}</span>
            </summary>
            <pre className="out" tabIndex={0} role="region" aria-label={`Event ${event.seq}`}>
              {JSON.stringify(event, null, 2)}
            </pre>
          </details>
        ))}
      </div>
      <div className="acts">
        <button className="btn line" type="button" onClick={save}>
          <Icon name="down" small />
          Save the whole log
        </button>
      </div>
    </section>
  );
}

/** The seqs of the events whose JSON has the text. */
function findEvents(events: readonly WireEvent[], query: string): readonly number[] {
  const wanted = query.trim().toLowerCase();
  if (wanted === "") return [];
  return events.filter((event) => JSON.stringify(event).toLowerCase().includes(wanted)).map(({ seq }) => seq);
}
