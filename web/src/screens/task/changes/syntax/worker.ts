/** The thread that colours code: whatever a text does to it, the page goes on. */
import { findLanguage, tokenize, type Token } from "./tokens.ts";

export interface ColourRequest {
  readonly path: string;
  readonly lines: readonly { readonly kind: "same" | "add" | "del" | "hunk"; readonly text: string }[];
}

/** The tokens of each line; null = no language is known by this name. */
export type ColourAnswer = readonly (readonly Token[])[] | null;

export type WorkerMessage = ColourAnswer | "loaded";

addEventListener("message", ({ data }: MessageEvent<ColourRequest>) => postMessage(colour(data)));
postMessage("loaded" satisfies WorkerMessage);

function colour({ path, lines }: ColourRequest): ColourAnswer {
  const language = findLanguage(path);
  if (language === null) return null;
  const tokens: (readonly Token[])[] = lines.map(() => []);
  for (let from = 0; from < lines.length;) {
    let to = from + 1;
    while (to < lines.length && lines[to]?.kind !== "hunk") to++;
    // The file before and the file after are read apart; what stayed has the colours of the latter.
    for (const left of ["add", "del"] as const) {
      const side: number[] = [];
      for (let i = from; i < to; i++) if (!["hunk", left].includes(lines[i]?.kind ?? "hunk")) side.push(i);
      const found = tokenize(
        language,
        side.map((i) => lines[i]?.text ?? ""),
      );
      side.forEach((i, n) => (tokens[i] = found[n] ?? []));
    }
    from = to;
  }
  return tokens;
}
