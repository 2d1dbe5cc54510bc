/** Attachments: the buttons that add them, and the list of what is attached. */
import { useQuery } from "@tanstack/react-query";
import { useRef, useState, type ClipboardEvent, type DragEvent } from "react";
import type { Attachment } from "../../../../src/core/values/attachment.ts";
import { MAX_ATTACHMENTS, type Attached, type Attaching } from "../../lib/attachments/attaching.ts";
import { formatBytes } from "../../lib/format.ts";
import { problemText } from "../../lib/client.ts";
import { loadBlob, loadPicture } from "../../lib/attachments/pictures.ts";
import { Icon } from "../icon.tsx";

/** For the element that takes files which are pasted or dropped. */
export function takesFiles({ add }: Attaching) {
  const take = (event: ClipboardEvent | DragEvent, files: FileList | undefined): void => {
    if (files === undefined || files.length === 0) return;
    event.preventDefault();
    add(files);
  };
  return {
    onPaste: (event: ClipboardEvent) => take(event, event.clipboardData.files),
    onDrop: (event: DragEvent) => take(event, event.dataTransfer.files),
    onDragOver: (event: DragEvent) => {
      if (event.dataTransfer.types.includes("Files")) event.preventDefault();
    },
  };
}

export function AttachButtons({ attaching }: { attaching: Attaching }) {
  const isTouch = matchMedia("(pointer: coarse)").matches;
  const isFull = attaching.items.length >= MAX_ATTACHMENTS;
  return (
    <>
      <FileButton label="Attach files" icon="clip" attaching={attaching} isDisabled={isFull} />
      {isTouch && <FileButton label="Take a photo" icon="camera" attaching={attaching} isDisabled={isFull} isCamera />}
    </>
  );
}

interface FileButtonProps {
  readonly label: string;
  readonly icon: "clip" | "camera";
  readonly attaching: Attaching;
  readonly isDisabled: boolean;
  readonly isCamera?: boolean;
}

function FileButton({ label, icon, attaching, isDisabled, isCamera = false }: FileButtonProps) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button
        className="iconbtn"
        type="button"
        aria-label={label}
        disabled={isDisabled}
        onClick={() => input.current?.click()}
      >
        <Icon name={icon} />
      </button>
      <input
        ref={input}
        type="file"
        hidden
        aria-label={label}
        multiple={!isCamera}
        {...(isCamera ? { accept: "image/*", capture: "environment" as const } : {})}
        onChange={(event) => {
          attaching.add([...(event.target.files ?? [])]);
          // The same file can be chosen again.
          event.target.value = "";
        }}
      />
    </>
  );
}

export function AttachList({ attaching }: { attaching: Attaching }) {
  const { items, remove } = attaching;
  if (items.length === 0) return null;
  return (
    <ul className="thumbs" aria-label="Attachments">
      {items.map((item) => (
        <li className="thumb" key={item.key}>
          <Pic attachment={item.attachment} />
          <span className="cap">
            <b title={item.name}>{item.name}</b>
            <Standing item={item} />
          </span>
          <button className="iconbtn" type="button" aria-label={`Remove ${item.name}`} onClick={() => remove(item.key)}>
            <Icon name="close" small />
          </button>
        </li>
      ))}
    </ul>
  );
}

function Standing({ item }: { item: Attached }) {
  if (item.problem !== null)
    return (
      <span className="bad" role="alert" title={item.problem}>
        {item.problem}
      </span>
    );
  return <span role="status">{item.attachment === null ? "Sending…" : formatBytes(item.attachment.bytes)}</span>;
}

/** What came with a prompt or a message. */
export function AttachedList({ attachments }: { attachments: readonly Attachment[] }) {
  if (attachments.length === 0) return null;
  return (
    <ul className="thumbs" aria-label="Attachments">
      {attachments.map((attachment) => (
        <li className="thumb" key={attachment.id}>
          <DownloadButton attachment={attachment} />
        </li>
      ))}
    </ul>
  );
}

function DownloadButton({ attachment }: { attachment: Attachment }) {
  const [problem, setProblem] = useState<string | null>(null);
  const download = async (): Promise<void> => {
    setProblem(null);
    try {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await loadBlob(attachment.id));
      link.download = attachment.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (thrown) {
      setProblem(problemText(thrown));
    }
  };
  return (
    <button className="thumb-open" type="button" onClick={() => void download()}>
      <Pic attachment={attachment} />
      <span className="cap">
        <b title={attachment.name}>{attachment.name}</b>
        <span role={problem === null ? undefined : "alert"}>
          {problem ?? `${formatBytes(attachment.bytes)}, download`}
        </span>
      </span>
    </button>
  );
}

function Pic({ attachment }: { attachment: Attachment | null }) {
  const isPicture = attachment !== null && attachment.width !== null;
  const { data } = useQuery({
    queryKey: ["picture", attachment?.id],
    queryFn: () => loadPicture(attachment?.id ?? ""),
    enabled: isPicture,
    staleTime: Infinity,
    gcTime: Infinity,
  });
  if (isPicture && data !== undefined) return <img className="pic" src={data} alt="" />;
  return (
    <span className="pic">
      <Icon name={isPicture ? "image" : "file"} />
    </span>
  );
}
