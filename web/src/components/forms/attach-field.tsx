/** The attachments of a prompt as a field of its form. */
import { MAX_ATTACHMENTS, type Attaching } from "../../lib/attachments/attaching.ts";
import { formatBytes } from "../../lib/format.ts";
import { AttachList, FileButton } from "./attachments.tsx";

export function AttachField({ attaching }: { attaching: Attaching }) {
  const isTouch = matchMedia("(pointer: coarse)").matches;
  const sent = attaching.items.flatMap(({ attachment }) => (attachment === null ? [] : [attachment]));
  const bytes = sent.reduce((sum, attachment) => sum + attachment.bytes, 0);
  return (
    <div className="field attach" role="group" aria-labelledby="attach-label">
      <p className="label" id="attach-label">
        Attachments{" "}
        <span className="opt num">
          {sent.length === 0 ? "optional" : `${sent.length} of ${MAX_ATTACHMENTS}, ${formatBytes(bytes)}`}
        </span>
      </p>
      <AttachList attaching={attaching} />
      <div className="acts tight">
        <FileButton label="Attach files" icon="clip" attaching={attaching} isWide />
        {isTouch ? (
          <FileButton label="Take a photo" icon="camera" attaching={attaching} isWide isCamera />
        ) : (
          <span className="note">or paste or drop them here</span>
        )}
      </div>
    </div>
  );
}
