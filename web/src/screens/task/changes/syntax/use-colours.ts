/** The colours of a file's lines, asked for when they come near the screen. */
import { startTransition, useEffect, useState, type RefObject } from "react";
import type { PatchLine } from "../../../../lib/patch.ts";
import { findColours } from "./highlighter.ts";
import type { ColourAnswer } from "./worker.ts";

/** One screen above and below what is seen. */
const NEAR = "100%";

/** @param lines the same array while the lines are the same. */
export function useColours(path: string, lines: readonly PatchLine[], place: RefObject<Element | null>): ColourAnswer {
  const [found, setFound] = useState<{ readonly lines: readonly PatchLine[]; readonly colours: ColourAnswer }>();
  useEffect(() => {
    const { current } = place;
    if (current === null) return undefined;
    let isGone = false;
    const observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
        observer.disconnect();
        void findColours(path, lines).then((colours) => {
          // The rows of a large file are drawn between other work.
          if (!isGone) startTransition(() => setFound({ lines, colours }));
        });
      },
      { rootMargin: NEAR },
    );
    observer.observe(current);
    return () => {
      isGone = true;
      observer.disconnect();
    };
  }, [path, lines, place]);
  return found?.lines === lines ? found.colours : null;
}
