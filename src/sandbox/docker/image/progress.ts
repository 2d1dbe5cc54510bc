/**
 * What the engine says while it builds or pulls an image, one JSON object per line. All of it is
 * evidence; people are told each step of the build, and of everything else (downloads, the output
 * of commands) a line now and then, which also shows that it goes on.
 */

export interface Line {
  /** In the engine's words; null = nothing. */
  readonly text: string | null;
  readonly error: string | null;
  /** The layer that this is about. */
  readonly layer: string | null;
  readonly percent: number | null;
  /** How much of the layer, in bytes. */
  readonly bytes: { readonly current: number; readonly total: number } | null;
}

/** At most one line between two steps in this time, ms. */
const QUIET_MS = 2_000;
const LONGEST = 120;
/** Ids of what lies between the steps. */
const NOISE = /^(?:--->|Removing intermediate container|Successfully (?:built|tagged))/;

export function parseLine(line: string): Line {
  const nothing = { text: null, error: null, layer: null, percent: null, bytes: null };
  try {
    const said: unknown = JSON.parse(line);
    if (typeof said !== "object" || said === null) return nothing;
    const word = (key: string): string | null => {
      const value: unknown = Reflect.get(said, key);
      return typeof value === "string" && value.trim() !== "" ? value.trim() : null;
    };
    const status = word("status");
    // The first line of a pull has an id too: the tag.
    const layer = status === null || status.startsWith("Pulling from") ? null : word("id");
    const bytes = bytesOf(Reflect.get(said, "progressDetail"));
    const percent = bytes === null ? null : percentOf(bytes.current, bytes.total);
    return { text: word("stream") ?? status, error: word("error"), layer, percent, bytes };
  } catch {
    return { ...nothing, text: line };
  }
}

function bytesOf(detail: unknown): Line["bytes"] {
  if (typeof detail !== "object" || detail === null) return null;
  const [current, total]: unknown[] = [Reflect.get(detail, "current"), Reflect.get(detail, "total")];
  return typeof current === "number" && typeof total === "number" && total > 0 ? { current, total } : null;
}

const percentOf = (current: number, total: number): number => Math.min(100, Math.floor((current / total) * 100));

/**
 * Layers come in any order and at the same time; people are told how much of all that is known to
 * come is here.
 */
export function createPullReporter(
  image: string,
  tell: (text: string) => void,
  now: () => number,
): (line: Line) => void {
  const layers = new Map<string, { current: number; total: number }>();
  let quietUntil = 0;
  return ({ text, layer, bytes }) => {
    const known = layer === null ? undefined : layers.get(layer);
    if (layer !== null && text === "Downloading" && bytes !== null) layers.set(layer, bytes);
    // What says "complete" was small, or has told its size before.
    else if (known !== undefined) known.current = known.total;
    if (layers.size === 0 || now() < quietUntil) return;
    quietUntil = now() + QUIET_MS;
    const sum = (key: "current" | "total"): number => [...layers.values()].reduce((all, one) => all + one[key], 0);
    const percent = percentOf(sum("current"), sum("total"));
    tell(
      percent === 100 ? `unpacking ${image}` : `pulling ${image}: ${percent} % of ${Math.ceil(sum("total") / 1e6)} MB`,
    );
  };
}

/** A function that passes on what people want to know. */
export function createProgressReporter(tell: (text: string) => void, now: () => number): (line: Line) => void {
  let quietUntil = 0;
  return ({ text, layer, percent }) => {
    if (text === null || NOISE.test(text)) return;
    const isStep = /^Step \d+\/\d+ /.test(text);
    if (!isStep && now() < quietUntil) return;
    if (!isStep) quietUntil = now() + QUIET_MS;
    const where = layer === null ? "" : ` ${layer}`;
    tell(shorten(`${text}${where}${percent === null ? "" : ` ${percent} %`}`));
  };
}

function shorten(text: string): string {
  const line = text.replace(/\s+/g, " ");
  return line.length <= LONGEST ? line : `${line.slice(0, LONGEST - 1)}…`;
}
