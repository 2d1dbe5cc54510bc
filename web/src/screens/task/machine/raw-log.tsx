/** The events around a moment as the wire has them, and the whole log as a file. */
import { Icon } from "../../../components/icon.tsx";
import type { WireEvent } from "../../../../../src/core/protocol/events.ts";
import { saveBlob } from "../../../lib/device/saving.ts";
import { formatSecond } from "../../../lib/format.ts";

const SHOWN = 12;

interface RawLogProps {
  readonly name: string;
  readonly events: readonly WireEvent[];
  /** The seq of the moment. */
  readonly seq: number;
}

export function RawLog({ name, events, seq }: RawLogProps) {
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
