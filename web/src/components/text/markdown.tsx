/**
 * Markdown. Its reader is loaded with the first text: a task is on the screen without it. Until
 * then the text is shown as it is.
 */
import { lazy, memo, Suspense } from "react";

const Blocks = lazy(async () => ({ default: (await import("./markdown-blocks.tsx")).MarkdownBlocks }));

export const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <Suspense fallback={<p className="prompt">{text}</p>}>
      <Blocks text={text} />
    </Suspense>
  );
});
