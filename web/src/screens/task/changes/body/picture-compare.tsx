/**
 * A picture before and after a change: beside each other, one over the other with an edge that
 * moves, or the pixels that differ. Its place is as high before the pictures are there.
 */
import { Suspense, useEffect, useRef, useState, type CSSProperties } from "react";
import { lazyComponent } from "../../../../lazy-component.tsx";
import { formatBytes, formatCount } from "../../../../lib/format.ts";

const PictureSheet = lazyComponent(
  async () => (await import("../../../../components/forms/picture-sheet.tsx")).PictureSheet,
);

export interface Side {
  /** Null while it is loaded. */
  readonly address: string | null;
  readonly bytes: number;
}

interface PictureCompareProps {
  readonly name: string;
  readonly before: Side;
  readonly after: Side;
}

type Mode = "beside" | "swipe" | "difference";

const MODES: readonly (readonly [mode: Mode, label: string])[] = [
  ["beside", "Beside"],
  ["swipe", "Swipe"],
  ["difference", "Difference"],
];

export function PictureCompare({ name, before, after }: PictureCompareProps) {
  const [mode, setMode] = useState<Mode>("beside");
  return (
    <div className="imgdiff">
      <fieldset className="seg">
        <legend className="sr">Compare {name}</legend>
        {MODES.map(([value, label]) => (
          <label key={value}>
            <input type="radio" name={`compare ${name}`} checked={mode === value} onChange={() => setMode(value)} />
            <span>{label}</span>
          </label>
        ))}
      </fieldset>
      {mode === "beside" && (
        <div className="pics">
          <Picture word="before" name={name} side={before} />
          <Picture word="after" name={name} side={after} />
        </div>
      )}
      {mode === "swipe" && <Swipe name={name} before={before} after={after} />}
      {mode === "difference" && <Difference name={name} before={before} after={after} />}
    </div>
  );
}

/** @param word says which one it is. */
export function Picture({ word, name, side }: { readonly word: string; readonly name: string; readonly side: Side }) {
  const [size, setSize] = useState<{ readonly width: number; readonly height: number } | null>(null);
  const [isBroken, setBroken] = useState(false);
  const [isOpen, setOpen] = useState(false);
  return (
    <figure className={word}>
      <button
        className="pic-open"
        type="button"
        aria-label={`Open ${word}: ${name}`}
        disabled={size === null}
        onClick={() => setOpen(true)}
      >
        <img
          src={side.address ?? undefined}
          alt={`${word}: ${name}`}
          onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) =>
            setSize({ width: naturalWidth, height: naturalHeight })
          }
          onError={() => setBroken(true)}
        />
      </button>
      <figcaption>
        {word}, {formatBytes(side.bytes)}
        {size !== null && `, ${formatCount(size.width)} × ${formatCount(size.height)}`}
        {isBroken && ", not a picture that this browser can show"}
      </figcaption>
      {isOpen && size !== null && side.address !== null && (
        <Suspense>
          <PictureSheet {...size} name={`${name}, ${word}`} address={side.address} onClose={() => setOpen(false)} />
        </Suspense>
      )}
    </figure>
  );
}

function Swipe({ name, before, after }: PictureCompareProps) {
  const [share, setShare] = useState(50);
  return (
    <>
      <div className="swipe" style={{ "--share": `${share}%` } as CSSProperties}>
        <img src={before.address ?? undefined} alt={`before: ${name}`} />
        <img src={after.address ?? undefined} alt={`after: ${name}`} />
      </div>
      <input
        className="range"
        type="range"
        aria-label={`Edge between before and after of ${name}`}
        aria-valuetext={`${share} % before`}
        min={0}
        max={100}
        value={share}
        onChange={({ target }) => setShare(Number(target.value))}
      />
    </>
  );
}

function Difference({ name, before, after }: PictureCompareProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [found, setFound] = useState<string | null>(null);
  useEffect(() => {
    let isGone = false;
    const [old, now] = [before.address, after.address];
    if (old === null || now === null) return;
    const compare = async (): Promise<void> => {
      const [first, second] = await Promise.all([decode(old), decode(now)]);
      if (!isGone && canvas.current !== null) setFound(drawDifference(canvas.current, first, second));
    };
    compare().catch(() => setFound("This browser cannot compare them."));
    return () => {
      isGone = true;
    };
  }, [before.address, after.address]);
  return (
    <figure>
      <canvas ref={canvas} role="img" aria-label={`difference: ${name}`} />
      <figcaption>
        <span role="status">{found ?? "Comparing…"}</span>
      </figcaption>
    </figure>
  );
}

async function decode(address: string): Promise<HTMLImageElement> {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

/** Longest side of what is compared, pixels: a phone has the memory for it. */
const LONGEST = 2_000;

/** Equal pixels are black. @returns what differs, in words. */
function drawDifference(canvas: HTMLCanvasElement, before: HTMLImageElement, after: HTMLImageElement): string {
  const width = Math.max(before.naturalWidth, after.naturalWidth);
  const height = Math.max(before.naturalHeight, after.naturalHeight);
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("no canvas");
  context.scale(scale, scale);
  // What is transparent in one picture and black in the other is a difference too.
  context.fillStyle = "#808080";
  context.fillRect(0, 0, before.naturalWidth, before.naturalHeight);
  context.drawImage(before, 0, 0);
  const under = context.getImageData(0, 0, canvas.width, canvas.height);
  context.clearRect(0, 0, width, height);
  context.fillRect(0, 0, after.naturalWidth, after.naturalHeight);
  context.drawImage(after, 0, 0);
  const over = context.getImageData(0, 0, canvas.width, canvas.height);
  let differing = 0;
  for (let at = 0; at < over.data.length; at += 4) {
    let sum = 0;
    for (let channel = at; channel < at + 4; channel++) {
      const apart = Math.abs((over.data[channel] ?? 0) - (under.data[channel] ?? 0));
      sum += apart;
      over.data[channel] = apart;
    }
    if (sum > 0) differing += 1;
    over.data[at + 3] = 255;
  }
  context.putImageData(over, 0, 0);
  return describeShare(differing, over.data.length / 4);
}

function describeShare(differing: number, all: number): string {
  if (differing === 0) return "No pixel differs.";
  const percent = (100 * differing) / all;
  return `${percent < 0.1 ? "less than 0.1" : percent.toFixed(1)} % of the pixels differ. Equal ones are black.`;
}
