/**
 * Markdown. Its reader is loaded when a conversation is opened: a task is on the screen without it.
 * A text that comes before the reader is shown as it is.
 */
import { memo, Suspense, type ComponentType } from "react";
import { importWithRetry, lazyComponent } from "../../lazy-component.tsx";
import type { MarkdownProps } from "./markdown-blocks.tsx";

type Reader = ComponentType<MarkdownProps>;

/** Null = it is not here yet. What is here is drawn at once, without a frame in between. */
let reader: Reader | null = null;

const read = async (): Promise<Reader> => {
  reader = (await import("./markdown-blocks.tsx")).MarkdownBlocks;
  return reader;
};
const Plain: Reader = ({ text, isInline }) => (isInline === true ? text : <p className="prompt">{text}</p>);
const LaterReader = lazyComponent(read, Plain);

/** What shows several texts waits for it: a text is not as high as what is read of it. */
export const loadMarkdown = async (): Promise<void> => void (await importWithRetry(read));

export const isMarkdownLoaded = (): boolean => reader !== null;

export const Markdown = memo(function Markdown({ text, isInline = false }: MarkdownProps) {
  const Blocks = reader;
  if (Blocks !== null) return <Blocks text={text} isInline={isInline} />;
  return (
    <Suspense fallback={<Plain text={text} isInline={isInline} />}>
      <LaterReader text={text} isInline={isInline} />
    </Suspense>
  );
});
