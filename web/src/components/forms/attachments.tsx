/** Attachments: the buttons that add them, and the list of what is attached. */
import { useQuery } from "@tanstack/react-query";
import { Suspense, useRef, useState, type ClipboardEvent, type DragEvent } from "react";
import { lazyComponent } from "../../lazy-component.tsx";
import type { Attachment } from "../../../../src/core/values/attachment.ts";
import { MAX_ATTACHMENTS, type Attaching } from "../../lib/attachments/attaching.ts";
import { formatBytes } from "../../lib/format.ts";
import { loadBlob, loadPicture } from "../../lib/attachments/pictures.ts";
import { useAct } from "../act.tsx";
import { Icon } from "../icon.tsx";

/** Behind a tap. */
const PictureSheet = lazyComponent(async () => (await import("./picture-sheet.tsx")).PictureSheet);

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

interface FileButtonProps {
  readonly label: string;
  readonly icon: "clip" | "camera";
  readonly attaching: Attaching;
  /** With its label in words. */
  readonly isWide?: boolean;
  readonly isCamera?: boolean;
}

export function FileButton({ label, icon, attaching, isWide = false, isCamera = false }: FileButtonProps) {
  const input = useRef<HTMLInputElement>(null);
  const isFull = attaching.items.filter(({ problem }) => problem === null).length >= MAX_ATTACHMENTS;
  return (
    <>
      <button
        className={isWide ? "btn line" : "iconbtn"}
        type="button"
        aria-label={label}
        disabled={isFull}
        onClick={() => input.current?.click()}
      >
        <Icon name={icon} />
        {isWide && label}
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
  const taken = items.filter(({ problem }) => problem === null);
  return (
    <>
      {taken.length > 0 && (
        <ul className="thumbs" aria-label="Attachments">
          {taken.map(({ key, name, attachment }) => (
            <li className="thumb" key={key}>
              <Pic attachment={attachment} />
              <span className="cap">
                <b title={name}>{name}</b>
                <span role="status">{attachment === null ? "Sending…" : formatBytes(attachment.bytes)}</span>
              </span>
              <button className="iconbtn" type="button" aria-label={`Remove ${name}`} onClick={() => remove(key)}>
                <Icon name="close" small />
              </button>
            </li>
          ))}
        </ul>
      )}
      {items.map(
        ({ key, name, problem }) =>
          problem !== null && (
            <p className="banner st-failed" role="alert" key={key}>
              <Icon name="warn" />
              <span className="grow">
                <b>{name}</b> is not attached. {problem}
              </span>
              <button className="iconbtn" type="button" aria-label={`Remove ${name}`} onClick={() => remove(key)}>
                <Icon name="close" small />
              </button>
            </p>
          ),
      )}
    </>
  );
}

/** What came with a prompt or a message. */
export function AttachedList({ attachments }: { attachments: readonly Attachment[] }) {
  if (attachments.length === 0) return null;
  return (
    <ul className="thumbs" aria-label="Attachments">
      {attachments.map((attachment) => (
        <li className="thumb" key={attachment.id}>
          <OpenButton attachment={attachment} />
        </li>
      ))}
    </ul>
  );
}

/** A picture is shown, another file is saved. */
function OpenButton({ attachment }: { attachment: Attachment }) {
  const { run, said } = useAct();
  const [isOpen, setOpen] = useState(false);
  const picture = usePicture(attachment);
  const save = async (): Promise<void> => {
    const { saveBlob } = await import("../../lib/device/saving.ts");
    saveBlob(attachment.name, await loadBlob(attachment.id));
  };
  const what = picture === undefined ? "download" : "open";
  return (
    <>
      <button
        className="thumb-open"
        type="button"
        onClick={() => (picture === undefined ? void run(save) : setOpen(true))}
      >
        <Pic attachment={attachment} />
        <span className="cap">
          <b title={attachment.name}>{attachment.name}</b>
          <span role={said === null ? undefined : "alert"}>
            {said?.text ?? `${formatBytes(attachment.bytes)}, ${what}`}
          </span>
        </span>
      </button>
      {isOpen && picture !== undefined && (
        <Suspense>
          <PictureSheet
            name={attachment.name}
            width={attachment.width ?? 0}
            height={attachment.height ?? 0}
            address={picture}
            onClose={() => setOpen(false)}
          >
            <button className="btn line" type="button" onClick={() => void run(save)}>
              Download
            </button>
          </PictureSheet>
        </Suspense>
      )}
    </>
  );
}

const isPicture = (attachment: Attachment | null): boolean => attachment !== null && attachment.width !== null;

/** Its address once it is loaded; undefined for what is no picture. */
function usePicture(attachment: Attachment | null): string | undefined {
  const { data } = useQuery({
    queryKey: ["picture", attachment?.id],
    queryFn: () => loadPicture(attachment?.id ?? ""),
    enabled: isPicture(attachment),
    staleTime: Infinity,
    gcTime: Infinity,
  });
  return data;
}

function Pic({ attachment }: { attachment: Attachment | null }) {
  const address = usePicture(attachment);
  if (address !== undefined) return <img className="pic" src={address} alt="" />;
  return (
    <span className="pic">
      <Icon name={isPicture(attachment) ? "image" : "file"} />
    </span>
  );
}
